#!/usr/bin/env python3
"""Did everything that can fail do so?  TAP output, one result a header, and one for the chains.

Runs the torture scenarios of build/dst and asks which calls were made to fail, and by what chain of
calls they were reached.  Every line of a header that allocates, makes a mutex, a condition variable
or a queue, starts a thread, reads a clock, asks for a random number, or calls a hook that returns a
status or a bool must be in a chain that failed; and every chain that was seen must have failed.
"""
import collections
import functools
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'tools'))
from headers import HEADERS, ROOT, blank  # noqa: E402
from tap import check, report, run  # noqa: E402

INNER = ['rm_alloc', 'rm_mutex_init', 'rm_cond_init', 'rm_waitq_init', 'rm_thread_start',
         'pthread_create', 'rm_now', 'rm_now_coarse', 'rm_wall', 'clock_gettime',
         'rm_random_seed', 'rm_random_below', 'getrandom']
EXCEPTIONS = ROOT / 'tests/torture-exceptions.txt'


def chains(program):
    """How often each chain failed: (name of the call, the lines of headers from it outwards)."""
    said = run(program, '--sites')
    found = re.findall(r'^# site (\d+) (\S+)((?: [0-9a-f]+)+)$', said, re.M)
    addresses = sorted({pc for *_, chain in found for pc in chain.split()})
    counts = collections.Counter()
    if not addresses:
        return counts
    lines = run('addr2line', '-a', '-i', '-e', program, *addresses)
    chunks = re.split(r'^0x0*([0-9a-f]+)\n', lines, flags=re.M)[1:]
    where = {pc: re.findall(r'/(rm\w*\.h:\d+)', text)
             for pc, text in zip(chunks[::2], chunks[1::2])}
    for faults, name, chain in found:
        counts[name, tuple(line for pc in chain.split() for line in where[pc])] += int(faults)
    return counts


def fallible_lines(header):
    """The lines of a header's implementation that call what can fail: (first line of the statement,
    line, text) of each: the compiler may give either."""
    text = (ROOT / header).read_text()
    declared = ''.join((ROOT / h).read_text() for h in HEADERS)
    hooks = re.findall(r'(?:rm_status|bool) \(\*(\w+)\)\(', declared)
    names = '|'.join(sorted({*INNER, *hooks}))
    call = re.compile(rf'(?<!\*)\b({names})\(')
    source = text.splitlines()
    lines, begun, first = [], False, 1
    for number, line in enumerate(blank(text).splitlines(), 1):
        begun = begun or line.startswith('#endif') and '_INCLUDED' in source[number - 1]
        if begun and call.search(line) and not re.match(r'(RM_API|static|typedef)\b', line):
            lines.append((first, number, source[number - 1].strip()))
        if line.rstrip().endswith((';', '{', '}', ':')) or not line.strip():
            first = number + 1
    return lines


def exceptions():
    """Lines of source that no torture reaches, by pattern, each with its reason."""
    rules = [line.split(' -- ') for line in EXCEPTIONS.read_text().splitlines()
             if line and not line.startswith('#')]
    return [re.compile(pattern) for pattern, _ in rules]


def tortured(header, failed, excepted):
    lines = fallible_lines(header)
    check(lines, f'no fallible call found in {header}')
    missed = [f'{header}:{number}: {text}' for first, number, text in lines
              if not any(f'{header}:{n}' in failed for n in range(first, number + 1))
              and not any(rule.search(text) for rule in excepted)]
    check(not missed, 'never made to fail:\n' + '\n'.join(missed))
    return f'{len(lines)} places in {header}'


def all_failed(found):
    missed = [f'{name} from {" < ".join(lines)}' for (name, lines), faults in found.items()
              if faults == 0]
    check(not missed, 'seen, but never made to fail:\n' + '\n'.join(missed))


def main():
    programs = [ROOT / f'build/dst/{path.stem}' for path in sorted((ROOT / 'tests/dst').glob('*.c'))
                if 'DST_TORTURE' in path.read_text()]
    found = collections.Counter()
    for program in programs:
        found.update(chains(program))
    failed = {line for (_, lines), faults in found.items() if faults > 0 for line in lines}
    print(f'# {len(found)} chains of calls x 3 modes, {sum(found.values())} failures: each alone, '
          'with all that follow, and in pairs')
    excepted = exceptions()
    return report([('every chain of calls that can fail has failed',
                    functools.partial(all_failed, found)),
                   *((f'every place in {header} that can fail has failed',
                      functools.partial(tortured, header, failed, excepted))
                     for header in HEADERS)])


if __name__ == '__main__':
    sys.exit(main())
