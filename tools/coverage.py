#!/usr/bin/env python3
"""How much of each header the unit tests reach: lines, branches, and conditions (MC/DC).

Every program of tests/unit is built by clang 19 and run; what one of them reaches is reached.  The
programs with RM_NO_THREADS count only for text that no other program contains; text for other
systems (_WIN32, __APPLE__) is not built here and does not count.

Then one line for each thing missing.  What cannot be reached is listed by reason in
tests/coverage-exclusions.txt, as regular expressions for such lines less their number.  Exit status
1: an error, a rule that matches nothing, or a header below the gate.
"""
import collections
import concurrent.futures
import json
import os
import re
import subprocess
import sys

from headers import HEADERS, ROOT
from rules import Rules

GATE = 95  # percent of the lines, of the branches and of the conditions of each header
KINDS = ('lines', 'branches', 'MC/DC')

OUT = ROOT / 'build/coverage'
CLANG = ('clang-19 -std=c11 -O0 -fprofile-instr-generate -fcoverage-mapping -fcoverage-mcdc '
         f'-fprofile-update=atomic -pthread -I{ROOT} -I{ROOT}/tests').split()
# a child of fork() leaves by _exit(), which would not write down what it reached
AT_EXIT = '''#include <unistd.h>
int __llvm_profile_write_file(void);
_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status) {
    __llvm_profile_write_file();
    __real__exit(status);
}
'''


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], check=False, text=True, timeout=300,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          **options)
    if done.returncode != 0:
        sys.exit(f'{" ".join(map(str, command))}: status {done.returncode}\n'
                 f'{done.stdout}{done.stderr}')
    return done.stdout, done.stderr


def build(test):
    """Builds and runs one program; returns what clang said."""
    objects = [OUT / 'exit.o']
    if not re.search(r'^#define RM_IMPLEMENTATION', test.read_text(), re.M):
        objects.append(OUT / 'rm.o')
    said = run(*CLANG, test, *objects, '-Wl,--wrap=_exit', '-o', OUT / test.stem)[1]
    run(OUT / test.stem, env={**os.environ, 'LLVM_PROFILE_FILE': f'{OUT}/{test.stem}.%p.profraw'})
    return said


def measure(tests):
    """What the programs reached together: {(header, kind, place, what is missing): bool}."""
    profile = OUT / f'{tests[0].stem}.profdata'
    run('llvm-profdata-19', 'merge', '-o', profile,
        *(raw for test in tests for raw in OUT.glob(f'{test.stem}.*.profraw')))
    total = {}
    for test in tests:
        export = 'llvm-cov-19', 'export', OUT / test.stem, f'-instr-profile={profile}'
        found = reached(json.loads(run(*export)[0])['data'][0]['files'],
                        run(*export, '-format=lcov')[0])
        for key, hit in found.items():
            total[key] = total.get(key, False) or hit
    return total


def inside(part, whole):
    return tuple(whole[:2]) <= tuple(part[:2]) and tuple(part[2:4]) <= tuple(whole[2:4])


def reached(files, lcov):
    found = collections.Counter()
    for part in lcov.split('end_of_record'):
        name = re.search(r'^SF:.*/(.*)$', part, re.M)
        for number, count in re.findall(r'^DA:(\d+),(\d+)', part, re.M):
            found[name[1], 'lines', (int(number),), 'the line is never run'] += int(count)
    for file in files:
        name = os.path.basename(file['filename'])
        for branch in file['branches']:
            place = tuple(branch[:4])
            found[name, 'branches', place, 'never true'] += branch[4]
            found[name, 'branches', place, 'never false'] += branch[5]
        for decision in file['mcdc_records']:
            conditions = sorted({tuple(branch[:4]) for branch in file['branches']
                                 if branch[-1] == 6 and inside(branch, decision)})
            if len(conditions) != len(decision[-1]):  # macros: say which decision, at least
                conditions = [(*decision[:4], i) for i in range(len(decision[-1]))]
            for place, shown in zip(conditions, decision[-1]):
                found[name, 'MC/DC', place, 'does not decide alone'] += shown
    return {key: count > 0 for key, count in found.items() if key[0] in HEADERS}


def snippet(lines, place):
    """The text of a place in a source, on one line."""
    first, begin, last, end = place[:4]
    text = lines[first - 1:last]
    text[-1] = text[-1][:end - 1]
    text[0] = text[0][begin - 1:]
    return ' '.join(' '.join(text).split())


def describe(lines, place, what):
    source = lines[place[0] - 1].strip()
    if len(place) == 1:
        return f'{what}: {source}'
    return f'"{snippet(lines, place)}" {what}: {source}'


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.glob('*.prof*'):
        old.unlink()
    (OUT / 'exit.c').write_text(AT_EXIT)
    run('clang-19', '-O1', '-c', OUT / 'exit.c', '-o', OUT / 'exit.o')
    run(*CLANG, '-c', ROOT / 'tests/rm.c', '-o', OUT / 'rm.o')
    tests = sorted((ROOT / 'tests/unit').glob('*.c'))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        said = '\n'.join(pool.map(build, tests))
    special = [test for test in tests if '#define RM_NO_THREADS' in test.read_text()]
    total = {**measure(special), **measure([test for test in tests if test not in special])}

    rules = Rules(ROOT / 'tests/coverage-exclusions.txt')
    sources = {name: (ROOT / name).read_text().splitlines() for name in HEADERS}
    counts, excluded, missing = collections.Counter(), 0, []
    for (name, kind, place, what), hit in sorted(total.items()):
        text = describe(sources[name], place, what)
        if not hit and rules.match(f'{name}: {text}'):
            excluded += 1
            continue
        counts[name, kind, hit] += 1
        if not hit:
            missing.append(f'{name}:{place[0]}: {text}')

    low = False
    print(f'{"":<16}' + ''.join(f'{kind:>22}' for kind in KINDS))
    for name in HEADERS:
        row = f'{name:<16}'
        for kind in KINDS:
            hit, missed = counts[name, kind, True], counts[name, kind, False]
            percent = 100 * hit / (hit + missed)
            low = low or percent < GATE
            row += f'{f"{hit}/{hit + missed}":>14}{percent:6.1f} %'
        print(row)
    print(f'excluded by rule: {excluded}')
    for line in missing:
        print(line)
    for place in sorted(set(re.findall(r'/(rm\w*\.h:\d+):\d+: warning: unsupported MC/DC', said))):
        print(f'{place}: the compiler cannot tell MC/DC of this expression')
    for rule in rules.unused:
        print(f'a rule matches nothing: {rule.pattern}')
    return int(low or bool(rules.unused))


if __name__ == '__main__':
    sys.exit(main())
