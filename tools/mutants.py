#!/usr/bin/env python3
"""Changes one token of a header at a time and asks whether the tests notice.

Only what gcc compiles here below the declarations is changed.  A mutant is killed when a program of
tests/unit that includes its header fails, crashes or hangs, or else a scenario of tests/dst; the
quickest come first.  A weakened memory order is for the scenarios alone.  One line for each
survivor.  What cannot be noticed is listed by reason in tests/mutants-equivalent.txt, as regular
expressions for such lines less their number.  Verdicts are kept in build/mutants: killed ones until
the header changes, the others until a test does.  Exit status 1: a header below the gate.
"""
import argparse
import collections
import concurrent.futures
import hashlib
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import time

from headers import HEADERS, ROOT, blank
from rules import Rules

GATE = 85  # percent of the mutants that no rule excuses
GATE_ORDERS = 100
LIMIT = 10  # seconds for a program, which then counts as hanging
SCHEDULES = ['--schedules', '2000']
MORE_SCHEDULES = ['--schedules', '20000']  # for memory orders

OUT = ROOT / 'build/mutants'
UNIT = ('gcc -std=c11 -w -O0 -fsanitize=bounds -fsanitize-undefined-trap-on-error -pthread '
        f'-I. -I{ROOT}/tests -I{ROOT}').split()
SCENARIO = f'gcc -std=gnu11 -w -O1 -fno-pie -fno-builtin -fsanitize=thread -I. -I{ROOT}/tests/dst'
TEXTS = {path: path.read_text()
         for folder in ('unit', 'dst') for path in sorted((ROOT / 'tests' / folder).glob('*.c'))}

TESTS_NOW = hashlib.sha256(''.join(TEXTS.values()).encode()).hexdigest()[:8]
JOURNAL = OUT / 'verdicts.txt'

NESTED = r'(?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*'  # parentheses in three levels
PATTERNS = {  # what a class changes, in code without comments and strings: the first group
    'operator': r' (==|!=|<=?|>=?|[-+*/%&|^]|<<|>>|[-+]=) '
                r'|(?<=[\w)\]])(\+\+|--)|(\+\+|--)(?=[\w(])',
    'logic': r' (&&|\|\|)\s|\b(true|false)\b',
    'constant': r'(?<![\w.])(\d+)(?=[uU]?\b(?!\.))',
    'condition': rf'\b(?:if|while) \(({NESTED})\)',
    'statement': r'(?:^ +|\) |else )((?:\(void\)|\*|\+\+|--)*\w[\w.>\[\]-]*'
                 r'(?:\([^;{}]*\)| [-+|&]?= [^;{}]*|\+\+|--)?;)$',
    'status': r'\b(RM_OK|RM_E_\w+)\b|\breturn (status);',
    'jump': r'\b(break|continue);',
    'order': r'\b(SEQ_CST|ACQ_REL|ACQUIRE|RELEASE)\)'}
SWAPS = dict(pair.split() for pair in (
    '== !=,!= ==,< <=,<= <,> >=,>= >,+ -,- +,* /,/ *,% *,<< >>,>> <<,& |,| &,^ &,+= -=,-= +=,++ --,'
    '-- ++,&& ||,|| &&,true false,false true,break continue,continue break').split(','))
WEAKER = {('LOAD', 'SEQ_CST'): 'ACQUIRE', ('STORE', 'SEQ_CST'): 'RELEASE'}

Mutant = collections.namedtuple('Mutant', 'header kind at before after')


def replacement(kind, before, code):
    """What stands for the token at the end of the code."""
    if kind == 'constant':
        return str(1 - int(before) if int(before) < 2 else int(before) + 1)
    if kind == 'condition':
        return f'!({before})'
    if kind == 'statement':
        return ';'
    if kind == 'status':
        return 'RM_E_INTERNAL' if before == 'RM_OK' else 'RM_OK'
    if kind == 'order':
        operation = re.findall(r'RMI_([A-Z]+)\d', code)[-1]
        return WEAKER.get((operation, before), 'ACQ_REL' if before == 'SEQ_CST' else 'RELAXED')
    return SWAPS[before]


def compiled_lines(header):
    """The numbers of the header's lines that gcc sees in a normal build."""
    lines, number, here = set(), 0, False
    for line in run('gcc', '-E', '-DRM_IMPLEMENTATION', '-xc', ROOT / header).splitlines():
        marker = re.match(r'# (\d+) "(.*?)"', line)
        if marker:
            number, here = int(marker[1]), marker[2].endswith('/' + header)
        else:
            if here and line.strip():
                lines.add(number)
            number += 1
    return lines


def mutants(header, only):
    text = (ROOT / header).read_text()
    start = text.index('_INCLUDED */')
    code, lines = blank(text), compiled_lines(header)
    for kind in PATTERNS if only is None else [only]:
        for match in re.finditer(PATTERNS[kind], code[start:], re.M):
            group = match.lastindex
            at = start + match.start(group)
            after = replacement(kind, match[group], code[:at])
            if code.count('\n', 0, at) + 1 in lines and after != match[group]:
                yield Mutant(header, kind, at, match[group], after)


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def works(where, *command, limit=60):
    command = ['timeout', '-k', '1', limit, 'prlimit', '--as=4000000000', *command]
    return subprocess.run([str(word) for word in command], cwd=where, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          check=False).returncode == 0


def place(header, where):
    """A folder where the headers are links, so that one can be replaced by a mutant."""
    where.mkdir(parents=True)
    for name in HEADERS:
        (where / name).symlink_to(ROOT / name)
    shutil.copy(OUT / 'objects/rm.o', where)
    return where


def object_code(header, folder, out):
    run(*'gcc -std=c11 -w -O2 -c -DRM_IMPLEMENTATION -xc'.split(), folder / header, '-o', out)
    return out.read_bytes()


def build_unit(test, header, where):
    """Builds a unit test; one that only declares rm.h need not be compiled again."""
    base = [] if re.search(r'^#define RM_IMPLEMENTATION', TEXTS[test], re.M) else ['rm.o']
    declares = header == 'rm.h' and base
    return works(where, *UNIT, OUT / f'objects/{test.stem}.o' if declares else test, *base,
                 '-o', test.stem)


def build_scenario(test, _, where):
    return (works(where, *SCENARIO.split(), '-c', test, '-o', 'scenario.o')
            and works(where, 'objcopy', f'--redefine-syms={ROOT}/tests/dst/symbols', 'scenario.o')
            and works(where, 'gcc', '-no-pie', 'scenario.o', OUT / 'objects/dst.o',
                      '-o', test.stem))


def programs(header, where):
    """What a mutant of the header must pass: (test, how to build it, its arguments, the time it
    has), the quickest first."""
    found = {'unit': [], 'dst': []}
    for test, text in TEXTS.items():
        if f'#include "{header}"' not in text or test.stem in ('dst', 'proof', 'soak'):
            continue
        build = build_unit if test.parent.name == 'unit' else build_scenario
        more = [] if build == build_unit else SCHEDULES
        began = time.monotonic()
        if not (build(test, header, where) and works(where, f'./{test.stem}', *more)):
            sys.exit(f'{test} fails without a mutant')
        cost = time.monotonic() - began
        found[test.parent.name].append((cost, test, build, more, max(LIMIT, 5 * cost)))
    return {kind: [row[1:] for row in sorted(rows, key=lambda row: row[0])]
            for kind, rows in found.items()}


def judge(mutant, text, tests, kills, where):
    """'killed by TEST', 'survived', or 'invalid': it does not compile, or to the same code."""
    header = where / mutant.header
    header.unlink()
    header.write_text(text[:mutant.at] + mutant.after + text[mutant.at + len(mutant.before):])
    planned = sorted(tests['unit'], key=lambda row: -kills[row[0]]) + tests['dst']
    if mutant.kind == 'order':
        planned = tests['dst'] + [(test, build, MORE_SCHEDULES, 10 * limit)
                                  for test, build, _, limit in tests['dst']]
    try:
        if mutant.header == 'rm.h' and not works(where, *UNIT, '-c', ROOT / 'tests/rm.c'):
            return 'invalid'
        for test, build, more, limit in planned:
            if not build(test, mutant.header, where):
                return 'invalid'
            if not works(where, f'./{test.stem}', *more, limit=limit):
                kills[test] += 1
                return f'killed by {test.stem}'
        if mutant.kind == 'order':
            return 'survived'
        same = (object_code(mutant.header, where, where / 'new.o')
                == object_code(mutant.header, ROOT, where / 'old.o'))
        return 'invalid' if same else 'survived'
    finally:
        header.unlink()
        header.symlink_to(ROOT / mutant.header)


def prepare():
    """Compiles once what no mutant changes."""
    shutil.rmtree(OUT / 'places', ignore_errors=True)
    (OUT / 'objects').mkdir(parents=True, exist_ok=True)
    run('gcc', '-O2', '-fno-pie', '-c', ROOT / 'tests/dst/dst.c', '-o', OUT / 'objects/dst.o')
    run(*UNIT, '-c', ROOT / 'tests/rm.c', '-o', OUT / 'objects/rm.o')
    for test, text in TEXTS.items():
        if '#include "rm.h"' in text and test.parent.name == 'unit':
            run(*UNIT, '-c', test, '-o', OUT / f'objects/{test.stem}.o')


def key(mutant, text):
    return hashlib.sha256(f'{text}{mutant}'.encode()).hexdigest()[:16]


def describe(mutant, text):
    code = blank(text)
    function = re.findall(r'^\w[^;=\n]*?\b(\w+)\([^;]*?\{$', code[:mutant.at], re.M)
    line = text[text.rindex('\n', 0, mutant.at) + 1:text.index('\n', mutant.at)].strip()
    change = ' '.join(f'{mutant.before} -> {mutant.after}'.split())
    return f'{function[-1] if function else ""}: {change}: {line}'


def trial(header, chosen, jobs, kept):
    """The verdicts on mutants of a header, in order; what is known already is not asked again."""
    text = (ROOT / header).read_text()
    kills, places = collections.Counter(), queue.Queue()
    for i in range(jobs):
        places.put(place(header, OUT / f'places/{header}-{i}'))
    tests = programs(header, places.queue[0])

    def verdict(mutant):
        known = kept.get(key(mutant, text), '')
        if known.startswith(('killed', 'invalid')) or known.endswith(TESTS_NOW):
            return known
        where = places.get()
        try:
            said = judge(mutant, text, tests, kills, where)
            return f'{said} {TESTS_NOW}' if said == 'survived' else said
        finally:
            places.put(where)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for mutant, said in zip(chosen, pool.map(verdict, chosen)):
            kept[key(mutant, text)] = said
            with JOURNAL.open('a') as journal:
                journal.write(f'{key(mutant, text)} {said}\n')
            yield mutant, said


def main():
    options = argparse.ArgumentParser(description=__doc__.split('\n\n', maxsplit=1)[0])
    options.add_argument('--header', choices=HEADERS, help='default: all')
    options.add_argument('--only', choices=PATTERNS, help='one class; default: all')
    options.add_argument('--sample', type=int, help='so many of each header; default: all')
    options.add_argument('--seed', type=int, default=1)
    options.add_argument('--jobs', type=int, default=os.cpu_count())
    options.add_argument('--rules', action='store_true',
                         help='try only what the rules excuse, and complain of what is killed')
    options = options.parse_args()

    prepare()
    JOURNAL.touch()
    kept = dict(line.split(' ', 1) for line in JOURNAL.read_text().splitlines())
    rules = Rules(ROOT / 'tests/mutants-equivalent.txt')
    counts, excused = collections.Counter(), 0
    for header in [options.header] if options.header else HEADERS:
        text = (ROOT / header).read_text()
        names = {mutant: describe(mutant, text) for mutant in mutants(header, options.only)}
        chosen = [mutant for mutant, name in names.items()
                  if rules.match(f'{header}: {name}') == options.rules]
        excused += len(names) - len(chosen)
        if options.sample is not None and options.sample < len(chosen):
            chosen = random.Random(options.seed).sample(chosen, options.sample)
        chosen.sort(key=lambda mutant: mutant.at)
        for mutant, said in trial(header, chosen, options.jobs, kept):
            survived = said.startswith('survived')
            if said != 'invalid':
                counts[header, mutant.kind, survived] += 1
            if said != 'invalid' and survived != options.rules:
                print(f'{header}:{text.count(chr(10), 0, mutant.at) + 1}: {names[mutant]}'
                      + (f': {said}' if options.rules else ''), flush=True)
    if options.rules:
        return int(any(not survived for _, _, survived in counts))
    for rule in rules.unused if options.header is None and options.only is None else []:
        print(f'a rule matches nothing: {rule.pattern}')
    return report(counts, excused)


def report(counts, excused):
    low = False
    for header in HEADERS:
        row, groups = f'{header:<13}', collections.Counter()
        for kind in PATTERNS:
            killed, survived = counts[header, kind, False], counts[header, kind, True]
            if killed + survived:
                row += f'  {kind} {killed}/{killed + survived}'
                groups[kind == 'order', True] += killed
                groups[kind == 'order', False] += survived
        for orders, gate in (False, GATE), (True, GATE_ORDERS):
            total = groups[orders, True] + groups[orders, False]
            if total:
                percent = 100 * groups[orders, True] / total
                low = low or percent < gate
                row += f'  {"orders" if orders else "killed"} {percent:.1f} %'
        if groups:
            print(row)
    print(f'excused by rule: {excused}')
    return int(low)


if __name__ == '__main__':
    sys.exit(main())
