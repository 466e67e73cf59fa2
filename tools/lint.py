#!/usr/bin/env python3
"""Reads the sources and complains: format, contract comments, warnings, plain text.  TAP output.

Every public function stands under a comment that begins with a sentence and says "Returns:",
"Threads:", "Blocks:", "Allocates:" and "Owns:", each at the start of a line or a sentence.  A
function without a result needs no Returns, one that hands no pointer over needs no Owns.  Every
field of a desc has a comment.
"""
import functools
import re
import shutil
import sys

from headers import HEADERS, ROOT, STRICT, blank, functions
from tap import check, report, run

SOURCES = [ROOT / name for name in HEADERS] + sorted(
    path for folder in ('tests', 'fuzz', 'examples', 'bench')
    for path in (ROOT / folder).rglob('*.[ch]'))
TEXTS = SOURCES + sorted(
    path for pattern in ('Makefile', '*.md', 'docs/*.md', 'tools/*', 'tests/*.py')
    for path in ROOT.glob(pattern) if path.is_file())
PROGRAMS = [path for path in SOURCES if path.suffix == '.c']

TAG = re.compile(r'(?:^|[.;] +)(Returns|Threads|Blocks|Allocates|Owns|Cost):', re.M)


def problems(found):
    check(not found, '\n'.join(found))


def comment_above(text, offset):
    """The text of the comment that ends on the line before the offset."""
    above = text[:offset]
    if above.endswith('*/\n'):
        above = above[above.rindex('/*'):]
    else:
        above = re.search(r'(?:^ *//.*\n)*\Z', above, re.M).group()
    return '\n'.join(line.strip(' */') for line in above.splitlines()).strip()


def contracts(path):
    text, found = path.read_text(), []
    for offset, kind, name, parameters in functions(text):
        comment = comment_above(text, offset)
        tags = set(TAG.findall(comment))
        wanted = {'Threads', 'Blocks', 'Allocates'}
        if kind != 'void':
            wanted.add('Returns')
        if ('*' in kind and 'const' not in kind) or '**' in parameters:
            wanted.add('Owns')
        where = f'{path.name}:{text.count(chr(10), 0, offset) + 1}: {name}'
        if not comment or TAG.match(comment):
            found.append(f'{where}: no summary')
        if wanted - tags:
            found.append(f'{where}: no {", ".join(sorted(wanted - tags))}')
    check(functions(text), f'{path.name}: no public function found')
    problems(found)


def fields(path):
    """A field is commented on one of its own lines, or on the line before them."""
    text, found = path.read_text(), []
    structs = r'^typedef struct (rm_\w+_desc) \{\n(.*?)^\}'
    for match in re.finditer(structs, blank(text), re.M | re.S):
        first = text.count('\n', 0, match.start(2))
        code, lines = match.group(2).splitlines(), text.splitlines()[first:]
        start = 0
        for i, line in enumerate(code):
            if ';' not in line:
                continue
            if not re.search(r'/\*|//|\*/', '\n'.join(lines[start:i + 1])):
                found.append(f'{path.name}:{first + i + 1}: {match.group(1)}: {line.strip()}')
            start = i + 1
    problems(found)


def lengths(path):
    """Functions stay within 60 lines; 40 is what to aim for."""
    found, long, signature, start = [], [], '', 0
    for number, line in enumerate(blank(path.read_text()).splitlines(), 1):
        if re.match(r'\w', line) and not line.rstrip().endswith(':'):
            signature, start = line, number
        elif signature and line.startswith('}'):
            size = number - start + 1
            name = re.search(r'(\w+)\(', signature)
            if name and not re.match(r'typedef|struct|enum|union|.*=', signature):
                if size > 60:
                    found.append(f'{path.name}:{start}: {name.group(1)} has {size} lines')
                elif size > 40:
                    long.append(f'{name.group(1)} {size}')
            signature = ''
    problems(found)
    return f'functions over 40 lines: {", ".join(long)}' if long else None


def plain(path):
    found = []
    for number, line in enumerate(path.read_text(encoding='latin-1').splitlines(), 1):
        where = f'{path.relative_to(ROOT)}:{number}'
        if not line.isascii():
            found.append(f'{where}: not ASCII')
        if path.suffix in (".c", ".h", ".py") and len(line) > 100:
            found.append(f'{where}: {len(line)} columns')
        if '\t' in line and path.name != 'Makefile':
            found.append(f'{where}: a tab')
        if line.endswith(' '):
            found.append(f'{where}: a blank at the end')
    problems(found)


def formatted(path):
    tool = shutil.which('clang-format-14') or 'clang-format'
    run(tool, '--dry-run', '--Werror', path)


def warnings(path, compiler):
    run(compiler, '-std=c11', *STRICT, '-O2', f'-I{ROOT}', f'-I{ROOT}/tests', '-c', path,
        '-o', '/dev/null')


def features(path):
    """docs/features.md names functions, files and tests that exist."""
    tests = {f'{suite}.{name}' for test in ROOT.glob('tests/*/*.c')
             for suite, name in re.findall(r'^(?:TEST|DST|DST_\w+)\((\w+), (\w+)',
                                           test.read_text(), re.M)}
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for name in re.findall(r'`([^`]+)`', line) if line.startswith('|') else []:
            file, _, symbol = name.partition(': ')
            if '/' in file or file.endswith('.h'):
                there = (ROOT / file).exists() and symbol in (ROOT / file).read_text()
            else:
                there = name in tests or name.startswith('make ')
            if not there:
                found.append(f'{path.name}:{number}: there is no {name}')
    problems(found)


def rows():
    yield 'docs/features.md: names that exist', functools.partial(
        features, ROOT / 'docs/features.md')
    for title, function, paths in (
            ('the contract of every public function', contracts, SOURCES[:len(HEADERS)]),
            ('a comment on every desc field', fields, SOURCES[:len(HEADERS)]),
            ('short functions', lengths, SOURCES),
            ('plain text', plain, TEXTS),
            ('format', formatted, SOURCES),
            ('no warning from gcc', functools.partial(warnings, compiler='gcc'), PROGRAMS),
            ('no warning from clang', functools.partial(warnings, compiler='clang'), PROGRAMS)):
        for path in paths:
            yield f'{path.relative_to(ROOT)}: {title}', functools.partial(function, path)


if __name__ == '__main__':
    sys.exit(report(list(rows())))
