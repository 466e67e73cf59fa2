#!/usr/bin/env python3
"""Did everything that can fail do so?  TAP output, one result a header, and one for the chains.

Runs the torture scenarios of build/dst and asks which calls were made to fail, and by what chain of
calls they were reached.  Every line of a header that allocates, makes a mutex, a condition variable
or a queue, starts a thread, reads a clock, asks for a random number, or calls a hook that returns a
status or a bool must be in a chain that failed.  Every chain that is seen while nothing has failed
must have failed in each of three ways: alone, as the first of all that follow, and in a pair; one
that is seen only behind another failure together with that.
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
NEVER = {('clock_gettime', 'with all that follow'): 'for ever: it could not end a wait'}


def chains(program):
    """How often each chain failed in which way: a Counter for each (name of the call, the lines of
    headers from it outwards)."""
    said = run(program, '--sites')
    found = re.findall(r'^# site((?: \d+){5}) (\S+)((?: [0-9a-f]+)+)$', said, re.M)
    addresses = sorted({pc for *_, chain in found for pc in chain.split()})
    counts = collections.defaultdict(collections.Counter)
    if not addresses:
        return counts
    lines = run('addr2line', '-a', '-i', '-e', program, *addresses)
    chunks = re.split(r'^0x0*([0-9a-f]+)\n', lines, flags=re.M)[1:]
    where = {pc: re.findall(r'/(rm\w*\.h:\d+)', text)
             for pc, text in zip(chunks[::2], chunks[1::2])}
    for numbers, name, chain in found:
        unharmed, alone, first, following, pair = map(int, numbers.split())
        counts[name, tuple(line for pc in chain.split() for line in where[pc])].update({
            'unharmed': unharmed, 'alone': alone, 'with all that follow': first,
            'behind another': following, 'in a pair': pair})
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
    missed = []
    for (name, lines), ways in found.items():
        wanted = ['alone', 'with all that follow', 'in a pair'] if ways['unharmed'] else []
        for way in wanted or ['behind another']:
            there = ways[way] or not wanted and ways['in a pair']
            if not there and (name, way) not in NEVER:
                missed.append(f'{name} {way} from {" < ".join(lines)}')
    check(not missed, 'seen, but never made to fail:\n' + '\n'.join(missed))


def main():
    programs = [ROOT / f'build/dst/{path.stem}' for path in sorted((ROOT / 'tests/dst').glob('*.c'))
                if 'DST_TORTURE' in path.read_text()]
    found = collections.defaultdict(collections.Counter)
    for program in programs:
        for chain, ways in chains(program).items():
            found[chain].update(ways)
    failed = {line for (_, lines), ways in found.items()
              if ways.total() > ways['unharmed'] for line in lines}
    unharmed = sum(ways['unharmed'] > 0 for ways in found.values())
    failures = [f'{sum(ways[way] > 0 for ways in found.values())} {way}'
                for way in ('alone', 'with all that follow', 'behind another', 'in a pair')]
    print(f'# {len(found)} chains of calls, '
          f'{len(found) - unharmed} seen only behind another failure')
    print(f'# chains that failed: {", ".join(failures)}')
    excepted = exceptions()
    return report([('every chain of calls that can fail has failed',
                    functools.partial(all_failed, found)),
                   *((f'every place in {header} that can fail has failed',
                      functools.partial(tortured, header, failed, excepted))
                     for header in HEADERS)])


if __name__ == '__main__':
    sys.exit(main())
