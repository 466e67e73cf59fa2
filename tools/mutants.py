#!/usr/bin/env python3
"""Changes one token of a header at a time and asks whether the tests notice.

Only what gcc compiles here below the declarations is changed.  A mutant is killed when a program of
tests/unit that includes its header fails, crashes or hangs, or else a scenario of tests/dst; the
quickest come first.  A memory order is weakened to each weaker one that its operation has, for the
scenarios alone.  One line for each survivor.  What cannot be noticed is listed by reason in
tests/mutants-equivalent.txt, as regular expressions for such lines less their number.  Verdicts are
kept in build/mutants until the header changes: that a program killed it until that or a file beside
it that is no test changes, that it survived until any of them does.  Exit status 1: a header below
the gate, or a rule that matches nothing.
"""
import argparse
import collections
import concurrent.futures
import functools
import hashlib
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import time

from headers import HEADERS, ROOT, TOKEN, blank
from rules import Rules

GATE = 85  # percent of the mutants that no rule excuses, but of the orders all
LIMIT = 10  # seconds for a program, which then counts as hanging
TOO_LONG = (124, 137, -signal.SIGKILL, -signal.SIGXCPU)
SCHEDULES = ['--schedules', '2000']
MORE_SCHEDULES = ['--schedules', '20000']  # for memory orders

OUT = ROOT / 'build/mutants'
UNIT = ('gcc -std=c11 -pedantic-errors -O0 -fsanitize=bounds -fsanitize-undefined-trap-on-error '
        f'-pthread -I. -I{ROOT}/tests -I{ROOT}').split()
SCENARIO = ('gcc -std=gnu11 -w -U_FORTIFY_SOURCE -O1 -fno-pie -fno-builtin -fsanitize=thread '
            f'-I. -I{ROOT}/tests/dst').split()
TEXTS = {path: path.read_text()
         for folder in ('unit', 'dst') for path in sorted((ROOT / 'tests' / folder).glob('*.c'))}

SOURCES = ''.join((ROOT / header).read_text() for header in HEADERS)


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def helpers(folder):
    """What the tests of a folder share."""
    paths = [path for path in sorted((ROOT / 'tests' / folder).glob('*'))
             if path.suffix != '.c' or path.stem == 'dst']
    return ''.join(path.read_text() for path in [ROOT / 'tests/rm_test.h', *paths])


HELPERS = {folder: helpers(folder) for folder in ('unit', 'dst')}
# What a test is now: a name that changes with it.
NOW = {test.stem: digest(text + HELPERS[test.parent.name])[:8] for test, text in TEXTS.items()}
TESTS_NOW = digest(''.join(NOW.values()))[:8]
JOURNAL = OUT / 'verdicts.txt'

NESTED = r'(?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*'  # parentheses in three levels
NAME = r'[&*]?[a-z_][\w.>\[\]-]*'
PATTERNS = {  # what a class changes, the last group; only 'string' sees strings
    'operator': r' (==|!=|<=?|>=?|[-+*/%&|^]|<<|>>|[-+]=) '
                r'|(?<=[\w)\]])(\+\+|--)|(\+\+|--)(?=[\w(])',
    'logic': r' (&&|\|\|)\s|\b(true|false)\b',
    'constant': r'(?<![\w.])(0x[0-9a-fA-F]+|\d+)(?=[uUlL]*\b(?!\.))',
    'real': r'(?<![\w.])(\d+\.\d*(?:e-?\d+)?|\d+e-?\d+)',
    'string': r'"(?:\\.|%.)*(?:([^"\\%\n])(?:\\.|[^"\\\n])*)?"'  # the first plain character
              r"|'(?:\\.|(.))'",
    'arguments': rf'(?:(?<=\w\()|(?<=, ))(?=({NAME}, {NAME})[,)])',
    'field': r'[\w\[\]]+(?:->|\.)([a-z_]\w*)\b(?!\()',
    'condition': rf'\b(?:if|while) \(({NESTED})\)',
    'statement': r'(?:^ +|\) |else )((?:\(void\)|\*|\+\+|--)*\w[\w.>\[\]-]*'
                 r'(?:\([^;{}]*\)| [-+|&]?= [^;{}]*|\+\+|--)?;)$',
    'status': r'\b(RM_OK|RM_E_\w+)\b|\breturn (status);',
    'jump': r'\b(break|continue);',
    'order': r'\b(SEQ_CST|ACQ_REL|ACQUIRE|RELEASE)\)'}
SWAPS = dict(pair.split() for pair in (
    '== !=,!= ==,< <=,<= <,> >=,>= >,+ -,- +,* /,/ *,% *,<< >>,>> <<,& |,| &,^ &,+= -=,-= +=,++ --,'
    '-- ++,&& ||,|| &&,true false,false true,break continue,continue break').split(','))
OTHERS = {
    'constant': lambda text: str(int(text, 0) + 1 if int(text, 0) > 1 else 1 - int(text, 0)),
    'real': lambda text: str(float(text) / 2),
    'string': lambda text: '-' if text == '_' else '_',
    'condition': lambda text: f'!({text})',
    'status': lambda text: 'RM_E_INTERNAL' if text == 'RM_OK' else 'RM_OK'}
RMW = {'SEQ_CST': 'ACQ_REL ACQUIRE RELEASE RELAXED', 'ACQ_REL': 'ACQUIRE RELEASE RELAXED',
       'ACQUIRE': 'RELAXED', 'RELEASE': 'RELAXED'}
WEAKER = {'LOAD': {**RMW, 'SEQ_CST': 'ACQUIRE RELAXED'},
          'STORE': {**RMW, 'SEQ_CST': 'RELEASE RELAXED'}}

Mutant = collections.namedtuple('Mutant', 'header kind at before after')


def operation(code):
    """What the memory order at the end of the code is for: LOAD, STORE, CAS ..."""
    return re.findall(r'RMI_([A-Z]+)\d', code)[-1]


@functools.lru_cache
def declarations(code):
    pattern = r'\b(?!return|sizeof|else)([a-z]\w*(?: \w+)* \**)(\w+)(?=[;,)[])'
    return [(match.start(), match[2], match[1]) for match in re.finditer(pattern, code)]


def type_of(expression, code, at):
    """The type that the last declaration before it gives to a name, field or address."""
    name = re.findall(r'\w+', expression)[-1]
    kinds = [kind for start, other, kind in declarations(code) if other == name and start < at]
    return re.findall('^[&*]?', expression), [kind.replace('const ', '') for kind in kinds[-1:]]


def other_field(before, code, at):
    """The next field of the same type and object in the function, and after the last the first."""
    function = code[code.rfind('\n}', 0, at):code.index('\n}', at)]
    name = re.search(r'[\w\[\]]+(?:->|\.)$', code[:at])[0]
    found = re.findall(rf'(?<!\w){re.escape(name)}([a-z_]\w*)\b(?!\()', function)
    wanted = type_of(before, code, at)
    fields = [field for field in dict.fromkeys(found) if type_of(field, code, at) == wanted]
    return fields[(fields.index(before) + 1) % len(fields)]


def replacements(kind, before, code, at):
    """What may stand for the token."""
    if kind == 'arguments':
        first, second = before.split(', ')
        same = type_of(first, code, at) == type_of(second, code, at)
        return [f'{second}, {first}'] if same else []
    if kind == 'field':
        return [other_field(before, code, at)]
    if kind == 'order':
        return WEAKER.get(operation(code[:at]), RMW)[before].split()
    return [OTHERS[kind](before) if kind in OTHERS else SWAPS.get(before, ';')]


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


def with_strings(text):  # only comments are spaces
    return TOKEN.sub(lambda match: match[0] if match[0][0] in '"\'' else blank(match[0]), text)


def mutants(header, only):
    text = (ROOT / header).read_text()
    start = text.index('_INCLUDED */')
    lines = compiled_lines(header)
    for kind in PATTERNS if only is None else [only]:
        code = with_strings(text) if kind == 'string' else blank(text)
        for match in re.finditer(PATTERNS[kind], code[start:], re.M):
            at = start + match.start(match.lastindex or 0)
            if match.lastindex is None or code.count('\n', 0, at) + 1 not in lines:
                continue
            before = match[match.lastindex]
            for after in replacements(kind, before, code, at):
                if after != before:
                    yield Mutant(header, kind, at, before, after)


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def works(where, *command, limit=60, patience=10, tries=1):
    """Whether a command succeeds in so many seconds of work; patience is for a busy machine, other
    tries for what took too long."""
    command = ['timeout', '-k', '1', limit * patience, 'prlimit', '--as=4000000000',
               f'--cpu={int(limit)}', *command]
    null = subprocess.DEVNULL
    for _ in range(tries):
        status = subprocess.run([str(word) for word in command], cwd=where, stdin=null,
                                stdout=null, stderr=null, check=False).returncode
        if status not in TOO_LONG:
            break
    return status == 0


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


def declares(test):
    """A unit test that only declares the headers need not be compiled again."""
    return not re.search(r'^#define RM_IMPLEMENTATION', TEXTS[test], re.M)


def build_unit(test, where):
    parts = [OUT / f'objects/{test.stem}.o', 'rm.o'] if declares(test) else [test]
    return works(where, *UNIT, *parts, '-o', test.stem)


def build_scenario(test, where):
    return (works(where, *SCENARIO, '-c', test, '-o', 'scenario.o')
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
        if not (build(test, where) and works(where, f'./{test.stem}', *more)):
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
        if not works(where, *UNIT, '-c', ROOT / 'tests/rm.c'):
            return 'invalid'
        for test, build, more, limit in planned:
            if not build(test, where):
                return 'invalid'
            patience = 10 if test.parent.name == 'dst' else 1  # schedules do not sleep
            if not works(where, f'./{test.stem}', *more, limit=limit, patience=patience, tries=2):
                kills[test] += 1
                return f'killed by {test.stem} {NOW[test.stem]}'
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
    run('gcc', '-w', '-U_FORTIFY_SOURCE', '-O2', '-fno-pie', '-c', ROOT / 'tests/dst/dst.c', '-o',
        OUT / 'objects/dst.o')
    run(*UNIT, '-c', ROOT / 'tests/rm.c', '-o', OUT / 'objects/rm.o')
    for test in TEXTS:
        if test.parent.name == 'unit' and declares(test):
            run(*UNIT, '-c', test, '-o', OUT / f'objects/{test.stem}.o')


def key(mutant, text):
    return digest(f'{text}{mutant}')[:16]


def describe(mutant, text):
    code = blank(text)
    function = re.findall(r'^\w[^;=\n]*?\b(\w+)\([^;]*?\{$', code[:mutant.at], re.M)
    line = text[text.rindex('\n', 0, mutant.at) + 1:text.index('\n', mutant.at)].strip()
    change = ' '.join(f'{mutant.before} -> {mutant.after}'.split())
    if mutant.kind == 'order':
        change = f'{operation(code[:mutant.at])} {change}'
    return f'{function[-1] if function else ""}: {change}: {line}'


def trial(header, chosen, jobs, kept):
    """The verdicts on mutants of a header, in order; what is known already is not asked again."""
    text = (ROOT / header).read_text()
    kills, places = collections.Counter(), queue.Queue()
    for i in range(jobs):
        places.put(place(header, OUT / f'places/{header}-{i}'))
    tests = programs(header, places.queue[0])

    def verdict(mutant):
        known = kept.get(key(mutant, text), '').split()
        if known[:1] == ['invalid'] or known[-1:] == [TESTS_NOW] or (
                known[:1] == ['killed'] and known[-1] == NOW.get(known[2])):
            return ' '.join(known)
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
    options.add_argument('--seed', type=int, default=int(digest(SOURCES)[:8], 16),
                         help='of the sample; default: follows from the headers')
    options.add_argument('--jobs', type=int, default=os.cpu_count())
    options.add_argument('--rules', action='store_true',
                         help='try only what the rules excuse, and complain of what is killed')
    options = options.parse_args()

    if options.sample is not None:
        print(f'seed {options.seed}', flush=True)
    prepare()
    JOURNAL.touch()
    kept = dict(line.split(' ', 1) for line in JOURNAL.read_text().splitlines())
    rules = Rules(ROOT / 'tests/mutants-equivalent.txt')
    counts, excused = collections.Counter(), collections.Counter()
    for header in [options.header] if options.header else HEADERS:
        text = (ROOT / header).read_text()
        names = {mutant: describe(mutant, text) for mutant in mutants(header, options.only)}
        chosen = [mutant for mutant, name in names.items()
                  if rules.match(f'{header}: {name}') == options.rules]
        excused.update((header, mutant.kind) for mutant in names.keys() - set(chosen))
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
    unused = rules.unused if options.header is None and options.only is None else []
    for rule in unused:
        print(f'a rule matches nothing: {rule.pattern}')
    return int(report(counts, excused) or unused != [])


def report(counts, excused):
    low = False
    for header in HEADERS:
        row, total = f'{header:<13}', collections.Counter()
        for kind in PATTERNS:
            killed, survived = counts[header, kind, False], counts[header, kind, True]
            group = 'orders' if kind == 'order' else 'others'
            total.update({group: killed + survived, f'{group} killed': killed,
                          f'{group} excused': excused[header, kind]})
            if killed + survived and kind != 'order':
                row += f'  {kind} {killed}/{killed + survived}'
        if total['others']:
            percent = 100 * total['others killed'] / total['others']
            low = low or percent < GATE
            print(f'{row}  killed {percent:.1f} %, excused {total["others excused"]}')
        if total['orders'] + total['orders excused']:
            low = low or total['orders killed'] < total['orders']
            print(f'{header:<13}  orders tried {total["orders"]}, caught '
                  f'{total["orders killed"]}, excused {total["orders excused"]}')
    return int(low)


if __name__ == '__main__':
    sys.exit(main())
