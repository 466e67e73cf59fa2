#!/usr/bin/env python3
"""Did everything that can fail do so?  TAP output, one result a header.

Runs the torture scenarios of build/dst and asks which calls were made to fail, and by what chain of
calls they were reached.  Every line of a header that allocates, makes a mutex, a condition variable
or a queue, or calls a hook that returns a status must be in a chain that failed.
"""
import functools
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'tools'))
from headers import HEADERS, ROOT, blank  # noqa: E402
from tap import check, report, run  # noqa: E402

INNER = ['rm_alloc', 'rm_mutex_init', 'rm_cond_init', 'rm_waitq_init']
EXCEPTIONS = ROOT / 'tests/torture-exceptions.txt'


def sites(program):
    """(name of the call that failed, how often, the lines of the chain) for each place."""
    said = run(program, '--sites')
    found = re.findall(r'^# site (\d+) (\S+)((?: [0-9a-f]+)+)$', said, re.M)
    addresses = sorted({pc for *_, chain in found for pc in chain.split()})
    if not addresses:
        return []
    lines = run('addr2line', '-a', '-i', '-e', program, *addresses)
    chunks = re.split(r'^0x0*([0-9a-f]+)\n', lines, flags=re.M)[1:]
    where = {pc: set(re.findall(r'([^/\n]+:\d+)', text))
             for pc, text in zip(chunks[::2], chunks[1::2])}
    return [(name, int(faults), set().union(*(where[pc] for pc in chain.split())))
            for faults, name, chain in found]


def fallible_lines(header):
    """The lines of a header's implementation that call what can fail: {number: text}."""
    text = (ROOT / header).read_text()
    hooks = re.findall(r'rm_status \(\*(\w+)\)\(', ''.join((ROOT / h).read_text() for h in HEADERS))
    names = '|'.join(sorted({*INNER, *hooks}))
    call = re.compile(rf'(?<!\*)\b({names})\(')
    source = text.splitlines()
    lines, begun = {}, False
    for number, line in enumerate(blank(text).splitlines(), 1):
        begun = begun or line.startswith('#endif') and '_INCLUDED' in source[number - 1]
        if begun and call.search(line) and not re.match(r'(RM_API|static|typedef)\b', line):
            lines[number] = source[number - 1].strip()
    return lines


def exceptions():
    """Lines of source that no torture reaches, by pattern, each with its reason."""
    rules = [line.split(' -- ') for line in EXCEPTIONS.read_text().splitlines()
             if line and not line.startswith('#')]
    return [re.compile(pattern) for pattern, _ in rules]


def tortured(header, failed, excepted):
    lines = fallible_lines(header)
    check(lines or header == 'rm_breaker.h', f'no fallible call found in {header}')
    missed = [f'{header}:{number}: {text}' for number, text in lines.items()
              if f'{header}:{number}' not in failed
              and not any(rule.search(text) for rule in excepted)]
    check(not missed, 'never made to fail:\n' + '\n'.join(missed))
    return f'{len(lines)} places in {header}'


def main():
    programs = [ROOT / f'build/dst/{path.stem}' for path in sorted((ROOT / 'tests/dst').glob('*.c'))
                if 'DST_TORTURE' in path.read_text()]
    found = [site for program in programs for site in sites(program)]
    failed = set().union(*(lines for _, faults, lines in found if faults > 0))
    print(f'# {len(found)} chains of calls, {sum(faults for _, faults, _ in found)} failures: each '
          'alone, with all that follow, and in pairs')
    excepted = exceptions()
    return report([(f'every place in {header} that can fail has failed',
                    functools.partial(tortured, header, failed, excepted)) for header in HEADERS])


if __name__ == '__main__':
    sys.exit(main())
