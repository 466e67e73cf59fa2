#!/usr/bin/env python3
"""The build matrix: every way to include, link and configure the headers.  TAP output.

tests/matrix.py          all rows whose name contains the optional argument
tests/matrix.py --cost   what a declaring include costs (docs/decisions.md has the limit's reason)
"""
import functools
import os
import pathlib
import re
import resource
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'tools'))
from headers import HEADERS, ROOT, STRICT, blank, functions  # noqa: E402
from tap import Failed, Skipped, check, report, run  # noqa: E402

BUILD = ROOT / 'build/matrix'
COMPILERS = [(cc, std) for cc in ('gcc', 'clang') for std in ('c11', 'c17', 'c++11', 'c++20')]
OPTIMISED = [('gcc', 'c11'), ('clang', 'c++20')]  # an optimiser warns of the same in each language
# what all headers together show in each language, these show of each header and setting
CHOSEN = [('gcc', 'c11'), ('gcc', 'c++20'), ('clang', 'c17'), ('clang', 'c++11')]
CXX = {'gcc': 'g++', 'clang': 'clang++'}
PARTS = ['BASE', 'MANAGER', 'POOL', 'CACHE', 'BREAKER', 'METRICS']
SYSTEM = ['stddef.h', 'stdint.h', 'stdbool.h', 'stdarg.h']
LIMIT = 7  # an include costs at most so many times what the four above cost: usual are 3 to 5
FEATURES = {'_DEFAULT_SOURCE', '_POSIX_C_SOURCE', '_DARWIN_C_SOURCE', 'WIN32_LEAN_AND_MEAN'}
# macros as well, with RM_POOL_TRACE
TRACED = {'rm_pool_acquire', 'rm_pool_acquire_until', 'rm_pool_scope_open'}
IMPLEMENT = '#define RM_IMPLEMENTATION\n'
ALL = ''.join(f'#include "{name}"\n' for name in HEADERS)
NOTHING = 'int main(void) { return 0; }\n'
rows = []


# >>programs

def implement(part):
    """A text that implements one part."""
    header = 'rm.h' if part in ('BASE', 'MANAGER') else f'rm_{part.lower()}.h'
    return f'#define RM_{part}_IMPLEMENTATION\n#include "{header}"\n'


def users(headers=HEADERS, folder=ROOT, prefix='rm_', name='main'):
    """A C function that takes the address of every public function: each has to be there."""
    names = [function[2] for header in dict.fromkeys(headers)
             for function in functions((folder / header).read_text(), prefix)]
    check(names, f'no public function found in {headers}')
    table = ',\n'.join(f'        (any_function){name}' for name in names)
    return f'''
typedef void (*any_function)(void);
int {name}(void);
int {name}(void) {{
    static const any_function all[] = {{
{table}}};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] == (any_function)0)
            return 1;
    return 0;
}}
'''


def compiler(cc, std):
    return [CXX[cc] if '++' in std else cc, f'-std={std}']


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def compile_text(text, out, *flags, cc='gcc', std='c11', include=ROOT, fails=False):
    source = write(out.with_suffix('.cc' if '++' in std else '.c'), text)
    return run(*compiler(cc, std), *STRICT, '-pthread', f'-I{include}', *flags, '-c', source,
               '-o', out, fails=fails)


def program(folder, files, *flags, cc='clang', std='c11', include=ROOT, link=(), fails=False):
    """Builds a program of several texts and runs it.  A text may name its own std or include.
    clang is quicker by far than gcc, which has its turn in the rows on languages."""
    objects = []
    for i, file in enumerate(files):
        options = {'cc': cc, 'std': std, 'include': include}
        text, own = (file, {}) if isinstance(file, str) else file
        out = folder / f'{i}.o'
        compile_text(text, out, *flags, **{**options, **own})
        objects.append(out)
    stds = [std] + [file[1].get('std', '') for file in files if not isinstance(file, str)]
    linker = CXX[cc] if '++' in ''.join(stds) else cc
    said = run(linker, *link, *objects, '-pthread', '-o', folder / 'a.out', fails=fails)
    if not fails:
        run(folder / 'a.out')
    return said


def expect(said, pattern):
    check(re.search(pattern, said), f'expected /{pattern}/ in:\n{said}')


def row(name):
    """Makes a function a row; it gets a folder of its own."""
    def add(function):
        folder = BUILD / re.sub(r'[^\w.+-]+', '_', name)
        rows.append((name, functools.partial(function, folder)))
        return function
    return add


def copy_of_headers(folder, pattern, text):
    """The headers with something replaced, to stand for another release."""
    for name in HEADERS:
        changed, count = re.subn(pattern, text, (ROOT / name).read_text())
        check(count > 0, f'/{pattern}/ does not occur in {name}')
        write(folder / name, changed)


def need(tool):
    if shutil.which(tool) is None:
        raise Skipped(f'no {tool}')


# >>compilers and languages

def add_language_rows():
    for cc, std in COMPILERS:
        @row(f'all headers, {cc} {std}')
        def together(folder, cc=cc, std=std):
            optimise = ['-O2'] if (cc, std) in OPTIMISED else []
            program(folder, [IMPLEMENT + ALL + users()], *optimise, cc=cc, std=std)

        @row(f'all headers, RM_STATIC, optimised, {cc} {std}')
        def static(folder, cc=cc, std=std):
            compile_text('#define RM_STATIC\n' + ALL + NOTHING, folder / 'a.o', '-O2',
                         cc=cc, std=std)

    for cc, std in CHOSEN:
        for header in HEADERS:
            @row(f'{header} alone, {cc} {std}')
            def alone(folder, header=header, cc=cc, std=std):
                include = f'#include "{header}"\n'
                compile_text(include + NOTHING, folder / 'declares.o', cc=cc, std=std)
                program(folder, [IMPLEMENT + include + users(['rm.h', header])], cc=cc, std=std)

        @row(f'all headers, RM_NO_THREADS, {cc} {std}')
        def no_threads(folder, cc=cc, std=std):
            program(folder, [IMPLEMENT + ALL, ALL + users()], '-DRM_NO_THREADS', cc=cc, std=std)
            symbols = run('nm', '-u', folder / '0.o')
            check('pthread' not in symbols, symbols)


@row('all headers, gnu11')
def gnu11(folder):
    program(folder, [IMPLEMENT + ALL + users()], std='gnu11')


@row('all headers, RM_NO_TLS')
def no_tls(folder):
    program(folder, [IMPLEMENT + ALL + users()], '-DRM_NO_TLS')
    symbols = run('readelf', '-sW', folder / '0.o')
    check(' TLS ' not in symbols, symbols)
    build = ['clang' if shutil.which('clang') else 'gcc', '-std=c11', '-DRM_NO_TLS', '-O0',
             '-pthread', f'-I{ROOT}', f'-I{ROOT}/tests']
    run(*build, '-c', ROOT / 'tests/rm.c', '-o', folder / 'rm.o')
    for unit in ('test_pool', 'test_pools', 'test_pool_cases', 'test_pool_life', 'test_pool_async',
                 'test_pool_corners'):
        source = ROOT / f'tests/unit/{unit}.c'
        implements = '#define RM_IMPLEMENTATION' in source.read_text()
        run(*build, source, *([] if implements else [folder / 'rm.o']), '-o', folder / unit)
        run(folder / unit)


@row('RM_POOL_TRACE, in C and C++, beside the addresses of what it traces')
def trace(folder):
    borrow = '''
int borrow(rm_pool *pool);
int borrow(rm_pool *pool) {
    const rm_deadline none = {0};
    rm_lease lease;
    rm_error error;
    RM_POOL_SCOPE(scope, pool, RM_NOWAIT, &error) {
        return scope.lease.resource != NULL;
    }
    return rm_pool_acquire(pool, 0, &lease, NULL) == RM_OK ||
           rm_pool_acquire_until(pool, none, NULL, &lease, NULL) == RM_OK;
}
'''
    for cc, std in ('gcc', 'c++11'), ('clang', 'c17'):
        program(folder, [IMPLEMENT + ALL + borrow + users()], '-DRM_POOL_TRACE', cc=cc, std=std)
    for cc, std in ('gcc', 'c11'), ('clang', 'c++17'):
        program(folder, [(IMPLEMENT + ALL, {'std': 'c11'}), ALL + borrow + users()],
                '-DRM_POOL_TRACE', cc=cc, std=std)


@row('all headers, 32 bit')
def bits32(folder):
    try:
        run('gcc', '-m32', '-x', 'c', '-', '-o', '/dev/null', input=NOTHING, stdin=None)
    except Failed:
        raise Skipped('gcc -m32 does not link') from None
    program(folder, [IMPLEMENT + ALL + users()], '-m32', cc='gcc', link=['-m32'])
    for cc in ('gcc', 'clang'):
        need(cc)
        for threads in ('', '#define RM_NO_THREADS\n'):
            compile_text(threads + IMPLEMENT + ALL, folder / 'b.o', '-m32', cc=cc)


@row('all headers, musl, static')
def musl(folder):
    need('musl-gcc')
    program(folder, [IMPLEMENT + ALL + users()], cc='musl-gcc', link=['-static'])


@row('all headers, Windows')
def windows(folder):
    need('x86_64-w64-mingw32-gcc')
    out = folder / 'a.o'
    compile_text(IMPLEMENT + ALL + users(), out, '-O2', cc='x86_64-w64-mingw32-gcc')
    run('x86_64-w64-mingw32-gcc', out, '-o', folder / 'a.exe')
    need('wine')
    run('wine', folder / 'a.exe', env={**os.environ, 'WINEDEBUG': '-all',
                                       'WINEPREFIX': str(ROOT / 'build/wine')})


@row('Windows, Interlocked atomics, as with its own compiler')
def interlocked(folder):
    need('x86_64-w64-mingw32-gcc')
    need('wine')
    folder.mkdir(parents=True, exist_ok=True)
    windows = ['x86_64-w64-mingw32-gcc', '-std=c11', '-DRMI_INTERLOCKED', f'-I{ROOT}',
               f'-I{ROOT}/tests']
    run(*windows, '-O1', '-c', ROOT / 'tests/rm.c', '-o', folder / 'rm.o')
    # test_breaker implements the headers itself
    for unit, how in ('test_wait', [folder / 'rm.o']), ('test_breaker', []):
        out = folder / f'{unit}.exe'
        run(*windows, ROOT / f'tests/unit/{unit}.c', *how, '-static', '-o', out)
        run('wine', out, env={**os.environ, 'WINEDEBUG': '-all',
                              'WINEPREFIX': str(ROOT / 'build/wine')})


# >>linkage

@row('two files, C and C')
def two_files(folder):
    program(folder, [IMPLEMENT + ALL, ALL + users()])


@row('two files, C implements, C++ uses')
def c_then_cxx(folder):
    program(folder, [IMPLEMENT + ALL, (ALL + users(), {'std': 'c++17'})])


@row('two files, C++ implements, C uses')
def cxx_then_c(folder):
    program(folder, [(IMPLEMENT + ALL, {'std': 'c++17'}), ALL + users()])


@row('declared first, implemented later')
def later(folder):
    for header in HEADERS:
        include = f'#include "{header}"\n'
        text = include + IMPLEMENT + include + users(['rm.h', header])
        program(folder / header, [text], std='gnu11')
        program(folder / header, [text], '-D_DEFAULT_SOURCE')


@row('included twice')
def twice(folder):
    program(folder / 'define', [IMPLEMENT + ALL + ALL + users()])
    program(folder / 'option', [ALL + ALL + users()], '-DRM_IMPLEMENTATION')


@row('any order')
def any_order(folder):
    backwards = ''.join(reversed(ALL.splitlines(keepends=True)))
    program(folder, [IMPLEMENT + backwards, backwards + users()])


@row('split build, one part a file')
def split(folder):
    program(folder, [*map(implement, PARTS), ALL + users()])


@row('RM_STATIC in two files of one program')
def static_twice(folder):
    def user(name):  # of all but the name that tells the linker what is missing
        uses = re.sub(r'.*\brm_abi\d+_define_RM_BASE_\w+,\n', '', users(name=name))
        return '#define RM_STATIC\n' + ALL + uses

    program(folder, [user('other'), user('user')
                     + 'int other(void);\nint main(void) { return other() + user(); }\n'])


@row('RM_STATIC leaves no global symbol')
def static_symbols(folder):
    compile_text('#define RM_STATIC\n' + ALL, folder / 'a.o')
    symbols = run('nm', '--defined-only', '--extern-only', folder / 'a.o')
    check(symbols == '', symbols)


@row('RM_STATIC after the first include is an error')
def static_too_late(folder):
    said = compile_text('#include "rm.h"\n#define RM_STATIC\n' + ALL, folder / 'a.o', fails=True)
    expect(said, 'error.*RM_STATIC before the first')


@row('RM_API chooses the linkage')
def own_linkage(folder):
    visible = '#define RM_API __attribute__((visibility("default")))\n'
    compile_text(visible + IMPLEMENT + ALL, folder / 'a.o', '-fPIC', '-fvisibility=hidden')
    run('gcc', '-shared', folder / 'a.o', '-pthread', '-o', folder / 'a.so')
    check(' T rm_pool_acquire\n' in run('nm', '-D', folder / 'a.so'), 'nothing is exported')


@row('own allocator')
def own_allocator(folder):
    own = ('#include <stddef.h>\nvoid *my_alloc(size_t);\nvoid my_free(void *);\n'
           '#define RM_MALLOC my_alloc\n#define RM_FREE my_free\n')
    define = ('#include <stdlib.h>\nvoid *my_alloc(size_t);\nvoid my_free(void *);\n'
              'void *my_alloc(size_t size) { return malloc(size); }\n'
              'void my_free(void *p) { free(p); }\n')
    program(folder, [own + IMPLEMENT + ALL, ALL + users(), define], '-D_DEFAULT_SOURCE')
    symbols = run('nm', '-u', folder / '0.o')
    check(not re.search(r'\b(malloc|calloc|realloc|free|aligned_alloc)\b', symbols), symbols)


@row('missing implementation is named by the linker')
def missing(folder):
    compile_text(ALL + users(), folder / 'main.o')
    for part in PARTS:
        compile_text(implement(part), folder / f'{part}.o')
    for part in PARTS:
        others = [folder / f'{other}.o' for other in ['main', *PARTS] if other != part]
        said = run('gcc', *others, '-pthread', '-o', folder / 'a.out', fails=True)
        expect(said, rf'rm_abi\d+_define_RM_{part}_IMPLEMENTATION_in_one_c_file')


@row('mixed ABIs are named by the linker')
def mixed_abi(folder):
    other = folder / 'other'
    copy_of_headers(other, r'abi1(?=\D)', 'abi2')
    said = program(folder, [IMPLEMENT + ALL, (ALL + users(folder=other), {'include': other})],
                   fails=True)
    for part in PARTS:
        expect(said, rf'rm_abi2_define_RM_{part}_IMPLEMENTATION_in_one_c_file')


@row('mixed ABIs are named whatever a file calls, or nothing, and with --gc-sections')
def mixed_abi_any_file(folder):
    other = folder / 'other'
    copy_of_headers(other, r'abi1(?=\D)', 'abi2')
    uses = ['return (int)rm_now(0);', 'return rm_pool_release(0, 0, RM_RELEASE_OK) == RM_OK;',
            'return 0;']
    for cc in ('gcc', 'clang'):
        need(cc)
        compile_text(IMPLEMENT + ALL, folder / 'rm.o', '-ffunction-sections', cc=cc)
        for use in uses:
            for header in HEADERS[:2]:
                if 'pool' in use and header == 'rm.h':
                    continue
                text = f'#include "{header}"\nint main(void) {{ {use} }}\n'
                for include, fails in ((ROOT, False), (other, True)):
                    compile_text(text, folder / 'main.o', '-ffunction-sections', '-fdata-sections',
                                 cc=cc, include=include)
                    said = run(cc, folder / 'main.o', folder / 'rm.o', '-pthread',
                               '-Wl,--gc-sections', '-o', folder / 'a.out', fails=fails)
                    if fails:
                        expect(said, 'rm_abi2_define_RM_BASE_IMPLEMENTATION_in_one_c_file')


@row('mixed releases are refused')
def mixed_releases(folder):
    other = folder / 'other'
    copy_of_headers(other, r'(_VERSION\b[^\n\d]*)\d+\b', r'\g<1>9999')
    for header in HEADERS:
        both = f'#include "{header}"\n#include "{other / header}"\n'
        expect(compile_text(both, folder / 'a.o', fails=True), r'error: #error .*release')
    (other / 'rm.h').unlink()
    for header in HEADERS[1:]:
        said = compile_text(f'#include "{other / header}"\n', folder / 'a.o', fails=True)
        expect(said, r'error: #error .*release')


@row('RM_MALLOC without RM_FREE is refused')
def malloc_alone(folder):
    for one, other in (('RM_MALLOC', 'RM_FREE'), ('RM_FREE', 'RM_MALLOC')):
        text = f'#define {one} my_function\n{IMPLEMENT}{ALL}'
        said = compile_text(text, folder / 'a.o', fails=True)
        expect(said, rf'error: #error .*{other}')


@row('strict C after a system header is refused in one line')
def too_late(folder):
    for header in HEADERS:
        text = f'#include <stdio.h>\n{IMPLEMENT}#include "{header}"\n'
        said = compile_text(text, folder / 'a.o', fails=True)
        check('#error' in re.findall(r'\berror:.*', said)[0], said)
        expect(said, r'#error .*(before|first)')
        program(folder / header, [text + users(['rm.h', header])], std='gnu11')


# >>names

@row('no stray symbols')
def symbols(folder):
    compile_text(IMPLEMENT + ALL, folder / 'a.o')
    names = re.findall(r'^\S* [A-Za-z] (\S+)$', run('nm', '--defined-only', folder / 'a.o'), re.M)
    check(len(names) > len(PARTS), 'nm found too little')
    stray = [name for name in names
             if not re.match(r'rmi?_', name) and not re.match(r'[\w$]+\.\d+$', name)]
    check(not stray, f'stray: {stray}')


@row('a declaring file defines no symbol')
def declared_symbols(folder):
    for cc, std in (('gcc', 'c11'), ('gcc', 'c++17')):
        compile_text(ALL, folder / 'a.o', cc=cc, std=std)
        said = run('nm', '--defined-only', '--extern-only', folder / 'a.o')
        check(said == '', said)


@row('no unprefixed macros')
def macros(folder):
    def defined(text):
        source = write(folder / 'a.c', text)
        said = run('gcc', '-std=c11', f'-I{ROOT}', '-dM', '-E', source)
        return set(re.findall(r'#define (\w+)', said))

    baseline = ''.join(f'#include <{name}>\n' for name in SYSTEM)
    added = defined(ALL) - defined(baseline)
    check(len(added) > 10, 'too few macros found')
    stray = [name for name in added if not re.match(r'RMI?_', name)]
    check(not stray, f'a declaring file sees {stray}')
    for header in HEADERS:
        text = blank((ROOT / header).read_text())
        names = set(re.findall(r'^\s*#\s*(?:define|undef)\s+(\w+)', text, re.M)) - FEATURES
        stray = [name for name in names - TRACED if not re.match(r'RMI?_', name)]
        check(not stray, f'{header} defines {stray}')


@row('no reserved identifiers')
def reserved(folder):
    need('clang')
    for std, end in (('c11', 'c'), ('c++17', 'cc')):
        source = write(folder / f'a.{end}', IMPLEMENT + ALL)
        said = run(*compiler('clang', std), f'-I{ROOT}', '-fsyntax-only', '-Wreserved-identifier',
                   '-Wreserved-macro-identifier', source)
        names = set(re.findall(r"warning: .*?'(\w+)' is.* reserved", said))
        names |= set(re.findall(r'warning: macro name is a reserved .*\n.*define (\w+)', said))
        check(not names - FEATURES, said)


@row('a declaring file includes four system headers')
def includes(folder):
    for std, end in (('c11', 'c'), ('c++17', 'cc')):
        source = write(folder / f'a.{end}', ALL)
        said = run(*compiler('gcc', std), f'-I{ROOT}', '-H', '-fsyntax-only', source)
        path, found = [], set()
        for dots, name in re.findall(r'^(\.+) (\S+)$', said, re.M):
            path[len(dots) - 1:] = [pathlib.Path(name)]
            if len(path) > 1 and path[-2].name in HEADERS:
                found.add(path[-1].name)
        check(found and found <= {'rm.h', *SYSTEM}, f'{std} includes {found}')


# >>dist

@row('dist is the same every time')
def dist_same(folder):
    for name in 'ab':
        shutil.rmtree(folder / name, ignore_errors=True)
        run(sys.executable, ROOT / 'tools/dist.py', folder / name)
    run('diff', '-r', folder / 'a', folder / 'b')


@row('dist: each file alone, all in one file, and rm.c')
def dist_alone(folder):
    run(sys.executable, ROOT / 'tools/dist.py', folder / 'dist')
    for header in [*HEADERS, 'rm_all.h']:
        empty = folder / header
        write(empty / header, (folder / 'dist' / header).read_text())
        used = HEADERS if header == 'rm_all.h' else ['rm.h', header]
        for std in ('c11', 'c++17'):
            text = f'{IMPLEMENT}#include "{header}"\n{users(used)}'
            program(empty, [text], std=std, include=empty)
    dist = folder / 'dist'
    program(folder, [IMPLEMENT + ALL, ALL + users()], include=dist)
    program(folder, [(dist / 'rm.c').read_text(), '#include "rm_all.h"\n' + users()], include=dist)


@row('dist: two copies under two names in one program')
def dist_renamed(folder):
    for prefix in ('rm_', 'foo_'):
        run(sys.executable, ROOT / 'tools/dist.py', folder, prefix)
    uses = users(name='use_rm') + users(
        ['foo_all.h'], folder, 'foo_', 'use_foo').replace('any_function', 'other_function')
    main = 'int main(void) { return use_rm() + use_foo(); }\n'
    program(folder / 'run', [(folder / 'rm.c').read_text(), (folder / 'foo.c').read_text(),
                             f'#include "rm_all.h"\n#include "foo_all.h"\n{uses}{main}'],
            include=folder)
    said = run('nm', folder / 'run/1.o')
    check(re.search(r'\bfoo_', said) and not re.search(r'\brmi?_', said), said)

    def strings(name):
        text = (folder / name).read_text()
        text = re.sub(r'(?m)^\s*#\s*(error|include)\b(.*\\\n)*.*$', '', text)
        text = re.sub(r'/\*.*?\*/|//[^\n]*', '', text, flags=re.S)
        return re.findall(r'"(?:\\.|[^"\\\n])*"', text)

    check(strings('rm_all.h') == strings('foo_all.h'), 'RENAME changed a string')
    text = (folder / 'foo_all.h').read_text()
    check('such as "RM_E_TIMEOUT"' in text, 'RENAME changed what a comment says of a string')


# >>install

def install(folder):
    """Installs into a stage and moves it, as a package does; returns the place it now has."""
    shutil.rmtree(folder, ignore_errors=True)
    run('make', '-s', '-C', ROOT, 'install', f'DESTDIR={folder / "stage"}', 'PREFIX=/usr')
    (folder / 'stage').rename(folder / 'moved')
    (folder / 'main.c').write_text('#define RM_IMPLEMENTATION\n' + ALL.replace('"rm', '"rm/rm')
                                   + users())
    return folder / 'moved/usr'


@row('install: pkg-config finds it where it was moved')
def install_pkg_config(folder):
    need('pkg-config')
    prefix = install(folder)
    env = {**os.environ, 'PKG_CONFIG_PATH': str(prefix / 'share/pkgconfig')}
    flags = run('pkg-config', '--cflags', '--libs', 'rm', env=env).split()
    run('gcc', '-std=c11', folder / 'main.c', *flags, '-o', folder / 'a.out')
    run(folder / 'a.out')


@row('install: CMake finds it where it was moved')
def install_cmake(folder):
    need('cmake')
    prefix = install(folder)
    (folder / 'CMakeLists.txt').write_text(
        'cmake_minimum_required(VERSION 3.10)\nproject(user C)\nfind_package(rm ${WANT} REQUIRED)\n'
        'add_executable(user main.c)\ntarget_link_libraries(user rm::rm)\n')
    for want, fails in (('', False), ('0.0.1', True), ('9', True), ('0.1', False)):
        run('cmake', '-S', folder, '-B', folder / 'build', f'-DCMAKE_PREFIX_PATH={prefix}',
            f'-DWANT={want}', fails=fails)
    run('cmake', '--build', folder / 'build')
    run(folder / 'build/user')


@row('uninstall leaves nothing behind')
def uninstall(folder):
    shutil.rmtree(folder, ignore_errors=True)
    for target in ('install', 'uninstall'):
        run('make', '-s', '-C', ROOT, target, f'DESTDIR={folder}', 'PREFIX=/usr')
        left = [str(path) for path in folder.rglob('*') if not path.is_dir()]
        check(bool(left) == (target == 'install'), f'after {target}: {left}')


# >>cost

def cpu_seconds():
    """CPU time of all finished children: the same whatever else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cost():
    """Milliseconds of CPU that a declaring include takes: the least of 31, since what others do on
    the machine only adds, less an empty file."""
    standard = ''.join(f'#include <{name}>\n' for name in SYSTEM)
    texts = {'nothing': '', 'the four standard headers': standard}
    texts.update({name: f'#include "{name}"\n' for name in HEADERS})
    sources = {name: write(BUILD / f'cost/{name.replace(" ", "_")}.c', text + 'int x;\n')
               for name, text in texts.items()}
    spent = {name: [] for name in sources}
    for _ in range(31):
        for name, source in sources.items():
            before = cpu_seconds()
            run('gcc', '-std=c11', f'-I{ROOT}', '-fsyntax-only', source)
            spent[name].append(cpu_seconds() - before)
    empty = min(spent.pop('nothing'))
    return {name: 1000 * (min(times) - empty) for name, times in spent.items()}


def report_cost():
    costs = cost()
    standard = costs.pop('the four standard headers')
    print('# include cost against an empty file: '
          + ', '.join(f'{name} {ms:.1f} ms' for name, ms in costs.items())
          + f'; of each, {standard:.1f} ms are the standard headers')
    return report([(f'{name} costs at most {LIMIT} times the standard headers',
                    functools.partial(check, ms <= LIMIT * standard, f'{name}: {ms:.1f} ms'))
                   for name, ms in costs.items()])


def main():
    if sys.argv[1:] == ['--cost']:
        return report_cost()
    add_language_rows()
    wanted = [(name, function) for name, function in rows if ''.join(sys.argv[1:]) in name]
    return report(wanted)


if __name__ == '__main__':
    sys.exit(main())
