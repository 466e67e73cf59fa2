#!/usr/bin/env python3
"""Runs all that a make target stands for, and adds up: tests/run.py test|check|check-deep

A step shows one line; if something failed, also what its programs said, less the tests that passed.
A program that crashes, hangs, stops early or announces no tests counts as failed; a variant without
its compiler as skipped.  The last lines name what failed; the very last is "N passed, N failed".
"""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tools'))
from rules import Rules  # noqa: E402

JOBS = os.cpu_count() or 1
UNITS = sorted(path.stem for path in (ROOT / 'tests/unit').glob('*.c'))
DRIVERS = sorted(path.stem for path in (ROOT / 'tests/drivers').glob('*.c'))
SCENARIOS = sorted(path.stem for path in (ROOT / 'tests/dst').glob('*.c') if path.stem != 'dst')
FUZZERS = sorted(path.stem[5:] for path in (ROOT / 'fuzz').glob('fuzz_*.c'))
ONE = 'build/dist/rm.c'
EXAMPLES = sorted(path.stem for path in (ROOT / 'examples').glob('*.c'))
ENVIRONMENT = {**os.environ, 'WINEDEBUG': '-all', 'WINEPREFIX': str(ROOT / 'build/wine')}
LEAST = 5000  # inputs that a fuzzer tries in its minute
# What is shown of programs in which nothing failed, by the step.
SHOWN = {'torture': '# .*chains .*', 'fuzzing': r'stat::number_of_executed_units.*',
         'coverage': '.*', 'orders': '.*', 'mutants': '.*'}
totals = {'passed': 0, 'failed': 0, 'skipped': 0}
failures = []  # for the end of a long log


def execute(*command, timeout=1200):
    """Runs a command; returns its exit status and all it printed."""
    try:
        done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, timeout=timeout, text=True,
                              errors='replace', stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        return 1, f'{(late.stdout or b"").decode(errors="replace")}\nran longer than {timeout} s'
    except OSError as error:
        return 1, str(error)


def works(*command):
    return shutil.which(command[0]) is not None and execute(*command)[0] == 0


def tally(status, said):
    """Counts the TAP lines; what was announced but not reported has failed, and the reverse."""
    results = re.findall(r'^(ok|not ok) \d+(.*# SKIP)?', said, re.M)
    plan = re.search(r'^1\.\.(\d+)$', said, re.M)
    planned = int(plan.group(1)) if plan else 0
    skipped = sum(result == 'ok' and skip != '' for result, skip in results)
    passed = results.count(('ok', ''))
    failed = len(results) - passed - skipped + abs(planned - len(results))
    if failed == 0 and (status != 0 or planned == 0):
        failed = 1
    return passed, failed, skipped


def exit_only(status, _):
    """For a program that checks itself and has no TAP lines: its exit status is one result."""
    return int(status == 0), int(status != 0), 0


def fuzzed(status, said):
    """One result: no failure, and enough inputs."""
    tried = re.search(r'^stat::number_of_executed_units: *(\d+)', said, re.M)
    passed = status == 0 and tried is not None and int(tried.group(1)) >= LEAST
    return int(passed), int(not passed), 0


def steps(jobs, *planned):
    """Runs the commands of all the steps, (name, commands, count) each, so many at a time, and
    reports step by step, with the seconds since the step before."""
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = [[pool.submit(execute, *command) for command in commands]
                   for _, commands, _ in planned]
        for (name, commands, count), futures in zip(planned, running):
            outcomes = [future.result() for future in futures]
            report(name, commands, count, outcomes, time.monotonic() - started)
            started = time.monotonic()


def report(name, commands, count, outcomes, seconds):
    sums = [sum(numbers) for numbers in zip(*(count(*outcome) for outcome in outcomes))]
    sums = sums or [0, 1, 0]  # nothing to run is a failure too
    for key, number in zip(totals, sums):
        totals[key] += number
    passed, missed, skipped = sums
    print(f'{name:<14}{passed:5} passed {missed:5} failed'
          + (f' {skipped:5} skipped' if skipped else ' ' * 14) + f'{seconds:8.1f} s', flush=True)
    for command, (status, said) in zip(commands, outcomes):
        failed = count(status, said)[1]
        if failed:
            tests = re.findall(r'^not ok.*', said, re.M) or [f'exit status {status}']
            failures.extend(f'failed: {" ".join(map(str, command))}: {test}' for test in tests)
        if failed or name == 'build':
            finished = re.search(r'^\d+ passed, \d+ failed$', said, re.M)
            show(command, status,
                 re.sub(r'(?m)^(# [\w.]+\n)?ok .*\n', '', said) if finished else said)
        elif name in SHOWN:
            show(command, status, '\n'.join(re.findall(f'^{SHOWN[name]}$', said, re.M)))
        elif '# SKIP' in said:
            show(command, status, '\n'.join(re.findall('.*# SKIP.*', said)))


def show(command, status, said):
    if said:
        print(f'  | {" ".join(map(str, command))} (exit status {status})')
        print(''.join(f'  | {line}\n' for line in said.splitlines()), end='', flush=True)


def variants():
    """How each unit test is built, and the command that runs it there."""
    probe = ROOT / 'build/probe.c'
    probe.parent.mkdir(exist_ok=True)
    probe.write_text('int main(void) { return 0; }\n')
    there = {'m32': works('gcc', '-m32', str(probe), '-o', os.devnull),
             'musl': works('musl-gcc', '--version'),
             'wine': works('x86_64-w64-mingw32-gcc', '--version') and shutil.which('wine')}
    runners = {name: [] for name in 'plain asan tsan dist m32 musl'.split()}
    runners['wine'] = ['wine']
    if works('setarch', '-R', 'true'):
        runners['tsan'] = ['setarch', '-R']  # its shadow memory does not fit every random layout
    for name in [name for name in runners if not there.get(name, True)]:
        del runners[name]
        totals['skipped'] += 1
        print(f'units {name:<8}    0 passed     0 failed     1 skipped: no compiler or runner')
    return runners


def units(variant, runner):
    names = UNITS + (DRIVERS if variant in ('plain', 'asan', 'tsan') else [])
    return (f'units {variant}', [[*runner, f'build/unit/{variant}/{name}.test'] for name in names],
            tally)


def tool(name, *command):
    return name, [[sys.executable, *command]], tally


def tests():
    runners = variants()
    make = [os.environ.get('MAKE', 'make'), '-s', '-k', f'-j{JOBS}', 'programs',
            f'VARIANTS={" ".join(runners)}']
    steps(1, ('build', [make], exit_only))
    # what runs on wine waits for the most part: one more than there are cores
    steps(JOBS + 1, *(units(*variant) for variant in runners.items()),
          ('schedules', [[f'build/dst/{name}'] for name in SCENARIOS], tally),
          tool('torture', 'tests/torture.py'),
          ('corpus', [[f'build/fuzz/{name}.replay', f'fuzz/corpus/{name}'] for name in FUZZERS],
           tally),
          tool('matrix', 'tests/matrix.py'), tool('misuse', 'tests/misuse.py'),
          tool('documentation', 'tools/doc_blocks.py'),
          *((name, [[f'build/examples/{name}']], exit_only) for name in EXAMPLES))


def deep():
    make = [os.environ.get('MAKE', 'make'), '-s', '-k', f'-j{JOBS}', 'programs', 'fuzzers',
            'VARIANTS=plain dist']
    stressed = 'build/unit/tsan/test_pool_cases.test'
    steps(1, ('build', [make, [*make[:4], stressed, 'VARIANTS=tsan']], exit_only))
    scenarios = sum(len(re.findall(r'^(?:DST|ONE_OF|BESIDE)\(', path.read_text(), re.M))
                    for path in (ROOT / 'tests/dst').glob('*.c'))
    schedules = ['--from', '1000000', '--schedules', str(10_000_000 // (2 * scenarios) + 1)]
    steps(JOBS, ('schedules', [[f'build/dst/{name}', *schedules] for name in SCENARIOS], tally),
          ('soak', [['build/dst/soak', '--from', str(4 * day)] for day in range(30)], tally))
    # 10^8 operations, by two processes: their threads wait for each other less than those of one
    fixed = ['setarch', '-R'] if works('setarch', '-R', 'true') else []
    steps(2, ('stress', [['env', 'RM_OPERATIONS=50000000', f'RM_SEED={seed}', *fixed, stressed,
                          'loses_no_wake_up'] for seed in range(2)], tally))
    for name in FUZZERS:
        (ROOT / f'build/fuzz/corpus-{name}').mkdir(exist_ok=True)
    fuzz = [[f'build/fuzz/{name}', '-max_total_time=60', '-max_len=300', '-timeout=5',
             '-print_final_stats=1', f'build/fuzz/corpus-{name}', f'fuzz/corpus/{name}']
            for name in FUZZERS]
    steps(JOBS, ('fuzzing', fuzz, fuzzed))
    # the children of test_fork leave memory behind, and those of test_hot_paths forbid system calls
    memcheck = ['valgrind', '-q', '--fair-sched=yes', '--error-exitcode=9', '--leak-check=full']
    steps(JOBS, ('memcheck', [[*memcheck, f'build/unit/plain/{name}.test']
                              for name in UNITS + DRIVERS
                              if name not in ('test_fork', 'test_hot_paths')], tally),
          ('gcc -fanalyzer', [['gcc', '-std=c11', '-O1', '-fanalyzer', '-Werror', '-c', ONE, '-o',
                               os.devnull]], exit_only),
          ('cppcheck', [[sys.executable, 'tests/run.py', 'cppcheck']], exit_only))
    mutants = [sys.executable, 'tools/mutants.py']
    steps(1, ('coverage', [[sys.executable, 'tools/coverage.py']], exit_only),
          ('mutants', [[*mutants, '--sample', '40']], exit_only),
          ('orders', [[*mutants, '--only', 'order']], exit_only))


def cppcheck():
    """Shows what cppcheck finds and no rule excuses, and the rules that excuse nothing."""
    rules = Rules(ROOT / 'tests/cppcheck-exceptions.txt')
    status, said = execute('cppcheck', '-q', '--std=c11', '--enable=warning,portability',
                           '--max-configs=1', '--suppress=toomanyconfigs',
                           '--template={id}: {code}\n {file}:{line}: {message}', ONE)
    found = [one for one in re.split(r'^(?=\S)', said, flags=re.M) if one]
    found = [one for one in found if not rules.match(re.sub(': +', ': ', one, count=1))]
    found += [f'a rule matches nothing: {rule.pattern}\n' for rule in rules.unused]
    print(''.join(found), end='')
    sys.exit(status != 0 or found != [])


def checks():
    steps(1, tool('sources', 'tools/lint.py'), tool('include cost', 'tests/matrix.py', '--cost'))


if __name__ == '__main__':
    {'test': tests, 'check': checks, 'check-deep': deep, 'cppcheck': cppcheck}[sys.argv[1]]()
    print(*failures, f'{totals["passed"]} passed, {totals["failed"]} failed', sep='\n')
    sys.exit(totals['failed'] > 0 or totals['passed'] == 0)
