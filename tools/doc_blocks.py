#!/usr/bin/env python3
"""Compiles and runs the code that the documentation shows, as C11 and as C++17, and as C11 with
the headers of dist.  TAP output.

That is: the QUICK START of each header, each ```c block of README.md and docs/ that has a main, and
each ```sh block that begins with the line "# tested".
"""
import functools
import re
import shutil
import sys
import textwrap

from headers import HEADERS, ROOT, STRICT
from tap import FASTEST, check, report, run

BUILD = ROOT / 'build/doc'
DIST = BUILD / 'dist'
LANGUAGES = [('C11', ['gcc', '-std=c11'], '.c'), ('C++17', [FASTEST[1], '-std=c++17'], '.cc'),
             ('C11, dist', [FASTEST[0], '-std=c11', f'-I{DIST}'], '.dist.c')]
LIBRARIES = '-pthread -Wl,--as-needed -lsqlite3 -lcurl -lmicrohttpd'.split()


def quick_start(header):
    """The indented lines between the heading and the next line in capitals at the margin."""
    text = (ROOT / header).read_text()
    match = re.search(r'^( *)QUICK START\n(.*?)^\1[A-Z][A-Z ]+$', text, re.M | re.S)
    check(match and 'main(' in match.group(2), f'{header} has no QUICK START with a main')
    return textwrap.dedent(match.group(2))


def program(name, code, compiler, end):
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    source, out = folder / f'main{end}', folder / f'main{end}.out'
    source.write_text(code() if callable(code) else code)
    run(*compiler, *STRICT, f'-I{ROOT}', source, '-o', out, *LIBRARIES)
    run(out, cwd=folder)


def script(name, code):
    """Runs the commands in an empty folder that has a copy of the headers and the examples."""
    folder = BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for header in HEADERS:
        shutil.copy(ROOT / header, folder)
    shutil.copytree(ROOT / 'examples', folder / 'examples')
    run('bash', '-eu', '-c', code, cwd=folder)


def rows():
    run(sys.executable, ROOT / 'tools/dist.py', DIST)
    for header in HEADERS:
        for language, compiler, end in LANGUAGES:
            yield (f'quick start of {header}, {language}',
                   functools.partial(program, header, functools.partial(quick_start, header),
                                     compiler, end))
    for page in [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]:
        text = page.read_text() if page.exists() else ''
        for match in re.finditer(r'^```(c|sh)\n(.*?)^```$', text, re.M | re.S):
            kind, code = match.groups()
            line = text.count('\n', 0, match.start()) + 1
            name = f'{page.name}-{line}'
            if kind == 'c' and 'int main(' in code:
                for language, compiler, end in LANGUAGES:
                    yield (f'{page.name} line {line}, {language}',
                           functools.partial(program, name, code, compiler, end))
            if kind == 'sh' and code.startswith('# tested'):
                yield f'{page.name} line {line}, commands', functools.partial(script, name, code)


if __name__ == '__main__':
    sys.exit(report(list(rows())))
