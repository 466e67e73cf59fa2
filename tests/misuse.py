#!/usr/bin/env python3
"""Calls every public function with every argument misused in turn, and judges what it does.

The declarations in the headers say what there is to call; tests/misuse.h has a valid argument for
each type of parameter and what can be wrong with it.  From both, one C program is written, built
with sanitizers and as a release, and run.  A parameter for which there is no argument is a failure,
so a new function cannot be forgotten.  What a call must do:
    it does not crash or hang, and returns a status that its comment names;
    RM_E_INVALID for NULL, unless the comment says what NULL means there;
    when it fails, it has written nothing but the error, which has the status, a place and a text;
    afterwards every object still works, can be destroyed, and no memory is left.
"""
import functools
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'tools'))
from headers import HEADERS, ROOT, blank, functions  # noqa: E402
from lint import TAG, comment_above  # noqa: E402
from tap import FASTEST, Failed, check, report, run  # noqa: E402

BUILD = ROOT / 'build/misuse'
BY_HAND = (ROOT / 'tests/misuse.h').read_text()
INCLUDES = ''.join(f'#include "{name}"\n' for name in HEADERS)
MADE = set(re.findall(r'\b((?:arg|good|take|after)_\w+)\(', BY_HAND))
BUILDS = {'sanitizers': '-O0 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all'.split(),
          'release': ['-O2']}  # of the headers; the calls are not optimised
CALLBACK_MATRIX = ROOT / 'tests/unit/test_callbacks.c'

# The callbacks that need no scene in the callback matrix, and the functions that need no action.
NO_HOOKS = {
    r'rm_(clock|allocator|random|log)\.\w+': 'must not call anything of ours',
    r'rm_waitq_desc\.(try|look_at)_fn|rm_registry_desc\.evictable_fn': 'runs under the lock',
    r'rm_waiter\.done_fn|rm_thread\.fn|rm_pools?_request\.acquired_fn': 'private: was a parameter',
    r'rm_pool_desc\.discard_fn': 'must not call the pool, which is not there yet',
    r'rm_thread_start\.fn': 'a thread',
}
NO_ACTION = {
    r'rm_\w+_after_fork_child': 'not from a hook of that object, says rm.h',
    'rm_breaker_destroy': 'returns nothing, so it cannot refuse: it is for an owner who sees to it '
                          'that there is no call on the breaker, and a hook is in one',
    r'rm_abi1_\w+': 'called by rm_pool_create and its like',
    r'rm_(alloc|backoff|class|clock|cond|deadline|env|errors?|free|hash|health|hist|kv|log|mutex|'
    r'now|random|resource|retryable|rng|sem|size|sleep|state|status|text|thread|time|timeout|utf8|'
    r'virtual_clock|wall)(_\w+)?|rm_cancel_(init|destroy|requested)': 'of nothing that has hooks',
}

OUT = {'out', 'sum', 'product', 'grant', 'wait_ns', 'count', 'size'}  # names of what is written

# What is not tried, because it is undefined or waits for ever: 'function.parameter', 'struct' (its
# fields) or 'struct.field', and the reason.  Nor is what holds for all: use after destroy or
# without init, giving back a lock that is not held, lengths that are lies, pointers to nothing.
UNDEFINED = {
    'rm_clock': 'a clock is checked by what takes an rm_env, not each time it is read',
    'rm_random': 'the same',
    'rm_allocator': 'the same',
    'rm_log_event.count': 'the length of an array that the caller has',
    'rm_sleep.ns': 'until INT64_MAX: sleeps without end',
    'rm_cond_wait.until_ns': 'INT64_MAX waits without end',
    'rm_virtual_clock_await.count': 'waits until there are so many waits',
    'rm_free.size': 'has to be that of the allocation',
    'rm_free.allocator': 'has to be that of the allocation',
    'rm_permit': 'a copy: it must not be made, says rm_breaker.h',
    'rm_hist_init.memory': 'memory that is not aligned',
    'rm_cache_load_set.load': 'a load that has ended',
    'rm_pool_desc.maintain_every_ns': 'a thread beside this one; the clock here is for one',
}

# Where NULL has a meaning that the comment of the function does not tell.
UNSAID = {}

# What is not misused together with another parameter: NULL means the system's clock, on which it
# would wait, or the system's memory, of which it would take much.
ALONE = {'rm_sleep': 'clock', 'rm_retry_call': 'desc', 'rm_alloc': 'allocator'}

# The failures with which a function may write what it else writes on success only.
WRITES = {
    'rm_cache_get': ['RM_E_TOO_LARGE'],       # *size is what it takes
    'rm_manager_status': ['RM_E_TOO_LARGE'],  # the first ones, and *count
    'rm_breaker_record': ['RM_E_STALE'],      # the permit is cleared
}

# What need not succeed when nothing is misused.
MAY_REFUSE = {'rm_error_set': 'returns the status that it is handed',
              'rm_pool_evict': 'the resource of its valid call is that of no pool'}

# What is wrong in the headers: the failures that are expected until it is not any more.
KNOWN = {}

KINDS = {'int64_t': 'I64', 'uint64_t': 'U64', 'int32_t': 'I32', 'uint32_t': 'U32',
         'size_t': 'SIZE', 'double': 'DOUBLE', 'const char *': 'STRING'}


# >>the headers

def split(parameters):
    """The parameters, divided at the commas that are in no parentheses."""
    parts, depth = [''], 0
    for letter in ' '.join(parameters.split()):
        depth += (letter == '(') - (letter == ')')
        if letter == ',' and depth == 0:
            parts.append('')
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip() != 'void']


def declarator(text):
    """(type, name) of a parameter or a field; the type of a callback is 'callback'."""
    callback = re.search(r'\(\*(\w+)\)\(', text)
    if callback:
        return 'callback', callback.group(1)
    kind, name = re.fullmatch(r'(.*?)(\w+)(?:\[.*\])?', ' '.join(text.split())).groups()
    return kind.replace('struct ', '').strip(), name


class Header:
    """What is declared above the implementation of a header."""
    def __init__(self, name):
        self.name = name
        self.text = (ROOT / name).read_text()
        code = blank(self.text)
        self.callbacks = set(re.findall(r'^typedef [^;{]*\(\*(rm_\w+)\)\(', code, re.M))
        self.enums = {kind: re.findall(r'RM_\w+', body) for body, kind in re.findall(
            r'^typedef enum \w+ \{([^}]*)\} (\w+);', code, re.M)}
        self.structs, self.said = {}, {}  # the fields; and with their comments, equally long
        for match in re.finditer(r'^typedef struct (rm_\w+) \{\n(.*?)^\}', code, re.M | re.S):
            self.structs[match.group(1)] = match.group(2)
            self.said[match.group(1)] = self.text[match.start(2):match.end(2)]
        self.functions = [one for one in functions(self.text)
                          if not re.match(r'\w+\)\(', one[3])]  # (rm_x)(...): a definition

    def comment(self, offset):
        return comment_above(self.text, offset)


HEADER = [Header(name) for name in HEADERS]
CALLBACKS = set().union(*(header.callbacks for header in HEADER))
ENUMS = {kind: names for header in HEADER for kind, names in header.enums.items()}
SAID = {kind: text for header in HEADER for kind, text in header.said.items()}
STRUCTS = {kind: body for header in HEADER for kind, body in header.structs.items()}
COMMENTS = {name: ' '.join(header.comment(offset).split())
            for header in HEADER for offset, _, name, _ in header.functions}
PARAMETERS = {name: parameters for header in HEADER for _, _, name, parameters in header.functions}
RETURN_TYPE = {name: kind for header in HEADER for _, kind, name, _ in header.functions}


def comment(name):
    """The contract of a function, with those that it refers to as `as rm_x`."""
    said = COMMENTS[name]
    return ' '.join([said] + [comment(other) for other in re.findall(r'\bas (rm_\w+)', said)])


def returns(name):
    """What the comment says after Returns:."""
    parts = TAG.split(comment(name))
    return ' '.join(text for tag, text in zip(parts[1::2], parts[2::2]) if tag == 'Returns')


def nullable(name, parameter):
    """Does the comment say what NULL means for this parameter?"""
    first = parameter == declarator(split(PARAMETERS[name])[0])[1]
    return parameter in ('error', 'errors', 'user', *UNSAID.get(name, [])) or re.search(
        rf'\b{parameter} (may be |\((may be )?)?NULL|NULL is allowed'
        + r'|^[^.]*\(NULL = ' * first, comment(name))


# >>the program

def limit(said):
    """The largest value that is not refused, if the comment of a field says so."""
    most = re.search(r'at most (\d[\d,]*)(\^\d+)?( days)?', said) or re.search(
        r'\b0(?: to |\.\.)(\d+)(?!\d|\^)(\^)?( days)?', said)
    if most is None:
        return 'INT64_MAX'
    number, power, days = most.groups()
    number = int(number.replace(',', '')) ** int((power or '^1')[1:])
    return f'INT64_C({number * (86400 * 10**9 if days else 1)})'


def fields(kind, prefix=''):
    """(name, kind of values, limit) of each field, those of structs in it included."""
    end = 0
    for line in STRUCTS[kind].split(';')[:-1]:
        end += len(line) + 1
        comment = re.match(r' */\*(.*?)\*/', SAID[kind][end:], re.S)
        most = limit(' '.join(comment.group(1).split()) if comment else '')
        first, *others = line.split(',') if '(*' not in line else [line]
        base, name = declarator(first.strip())
        for name in [name] + [declarator('x ' + other.strip())[1] for other in others]:
            if f'{kind}.{name}' in UNDEFINED or base == 'bool':
                continue
            if base in STRUCTS:
                yield from fields(base, f'{prefix}{name}.')
            elif base == 'callback' or base in CALLBACKS:
                yield prefix + name, 'FUNCTION', 0
            elif base in ENUMS:
                yield prefix + name, 'ENUM', ENUMS[base][-1]
            elif base in KINDS or base.endswith('*'):
                yield prefix + name, KINDS.get(base, 'POINTER'), most
            else:
                raise Failed(f'{kind}.{name}: no values for {base}')


def tables(kinds):
    for kind in sorted(kinds):
        rows = ''.join(f'    {{"{name}", offsetof({kind}, {name}), {values}, {last}}},\n'
                       for name, values, last in fields(kind))
        yield f'static const field fields_of_{kind}[] = {{\n{rows}}};\n'


def mangled(kind):
    """A type as part of a name: without const, a * as p."""
    kind, stars = kind.replace('const', '').replace('*', ' ').split()[0], kind.count('*')
    return kind + ('_' + 'p' * stars if stars else '')


def makes_first(function):
    """Is the first argument memory in which the function makes something?"""
    return re.search('_(init|begin)$|^rm_thread_start$', function)


def argument(function, number, text):
    """C text that declares argument number `number` of a function and gives it its value."""
    kind, name = declarator(text)
    variable, value = f'a{number}', f'w, value_of(w, {number})'
    base = kind.replace('const', '').replace('*', '').strip()
    own, typed = f'arg_{function}__{name}', f'arg_{mangled(kind)}'
    if kind == 'callback':
        return f'    {text.replace(f"(*{name})", f"(*{variable})")} = {own}({value});\n'
    if own not in MADE and '*' in kind and 'const' not in kind and (
            name in OUT or number == 0 and makes_first(function)):
        target = kind[:-1].strip()
        return f'    {kind}{variable} = ({kind})arg_out({value}, "{name}", sizeof({target}));\n'
    for there in (own, f'{typed}__{name}', typed):
        if there in MADE:
            plain = re.sub('const (?=rm_)', '', kind)
            return f'    {plain} {variable} = {there}({value});\n'
    if kind.count('*') == 1 and f'good_{base}' in MADE:
        fields_of = 'NULL, 0' if base in UNDEFINED else f'FIELDS({base})'
        return (f'    {base} s{number} = good_{base}(w);\n'
                f'    {base} *{variable} = ({base} *)arg_struct({value}, &s{number}, '
                f'sizeof s{number}, {fields_of});\n')
    if kind in ENUMS:
        return f'    {kind} {variable} = ({kind})arg_enum({value}, {ENUMS[kind][-1]});\n'
    raise Failed(f'{function}: no argument for {text}: tests/misuse.h needs {typed} or {own}')


def outs(function, parameters):
    """C text that ends what a successful call has made."""
    text = ''
    for number, parameter in enumerate(parameters):
        kind, name = declarator(parameter)
        take = f'take_{mangled(kind)}'
        if (name == 'out' or number == 0 and makes_first(function)) and take in MADE:
            text += f'    if (result == RM_OK) {take}(w, a{number});\n'
    return text


def caller(function, kind, parameters):
    """A C function that calls one public function with an argument misused."""
    kind = kind.replace('RM_MUST_USE ', '')
    variadic = '...' in parameters
    names = [f'a{number}' for number in range(len(parameters) - variadic)]
    parameters = parameters[:len(names)]
    text = f'static void call_{function}(world *w) {{\n'
    text += ''.join(argument(function, number, one) for number, one in enumerate(parameters))
    text += '    if (!calling(w)) return;\n'
    call = f'{function}({", ".join(names + ["(char *)w->scratch"] * variadic)})'
    after = f'after_{function}'
    if kind == 'void':
        text += f'    {call};\n'
    else:
        text += f'    {kind} result = {call};\n    (void)result;\n'
    if kind == 'rm_status':
        text += '    judge(w, result);\n' + outs(function, parameters)
    elif kind == 'bool':
        text += '    if (!result) judge_outs(w);\n'
    elif kind == 'const char *':
        unknown = re.search(r'"(\w+)" for a number that is no', returns(function)).group(1)
        enum = ENUMS[declarator(parameters[0])[0]]
        odd = f'(int)a0 < 0 || (int)a0 > (int){enum[-1]}'
        text += f'    judge_string(result, {odd}, "{unknown}");\n'
    if re.search(r'\b0( for [^.;]*)? for NULL|\bfalse for NULL', returns(function)):
        text += '    if (w->null) expect(!result, "not 0 for NULL");\n'
    if after in MADE:
        result = ['result'] if kind != 'void' else []
        text += f'    {after}({", ".join(["w"] + result + names)});\n'
    return text + '}\n\n'


def bits(statuses):
    return ' | '.join(f'1u << {status}' for status in sorted(set(statuses))) or '0'


def contract(function, parameters):
    said = returns(function)
    names = [declarator(one)[1] for one in parameters if one != '...']
    statuses = ['RM_OK'] + [one for one in ENUMS['rm_status'] if re.search(rf'\b{one}\b', said)]
    if re.search(r"_fn's status|that of fn|first failure|status and error|status of the", said):
        statuses.append('RM_E_REFUSED')  # what our callbacks fail with
    null = bits(i for i, name in enumerate(names) if nullable(function, name))
    alone = bits(i for i, name in enumerate(names) if name == ALONE.get(function))
    flags = [re.search(r'RM_E_INVALID[^;.]* naming the field', said),
             re.search(r'^ ?status,|handed in', said), 'rm_cache_load *' in ' '.join(parameters),
             function.endswith('_after_fork_child'), function in MAY_REFUSE]
    quoted = ', '.join(f'"{name}"' for name in names) or 'NULL'
    return (f'    {{"{function}", call_{function}, (const char *const[]){{{quoted}}},\n'
            f'     {len(names)}, {bits(statuses)},\n'
            f'     {null}, {alone}, {bits(WRITES.get(function, []))}, '
            f'{", ".join("true" if flag else "false" for flag in flags)}}},\n')


def program():
    """The text of the program that calls every function."""
    callers, contracts, found = '', '', []
    for header in HEADER:
        for _, kind, function, parameters in header.functions:
            try:
                callers += caller(function, kind, split(parameters))
            except Failed as missing:
                found.append(str(missing))
            contracts += contract(function, split(parameters))
    check(not found, '\n'.join(found))
    used = set(re.findall(r'FIELDS\((\w+)\)', callers))
    return ('#include "misuse.h"\n\n' + '\n'.join(tables(used)) + '\n' + callers
            + f'static const contract contracts[] = {{\n{contracts}}};\n\n'
            'int main(void) {\n'
            '    return run_all(contracts, sizeof contracts / sizeof *contracts);\n}\n')


# >>rows

def every_parameter():
    for name in [*UNDEFINED, *UNSAID, *ALONE, *WRITES, *MAY_REFUSE]:
        check(name.split('.')[0] in {**PARAMETERS, **STRUCTS}, f'there is no {name}')
    text = BY_HAND + program()
    unused = [name for name in MADE if len(re.findall(rf'\b{name}\b', text)) < 2]
    check(not unused, f'tests/misuse.h has, for nothing: {", ".join(unused)}')


def hooks():
    """The name of every hook: struct.field, function.parameter, or else the type of a callback."""
    places = [(kind, declarator(field)) for kind, body in STRUCTS.items()
              for field in body.split(';') if '(*' in field or CALLBACKS & set(field.split())]
    for function, parameters in PARAMETERS.items():
        made = STRUCTS.get(RETURN_TYPE[function], '')  # what has the callback then
        places += [(function, declarator(one)) for one in split(parameters)
                   if one != '...' and not re.search(rf'\(\*{declarator(one)[1]}\)', made)]
    places = [(place, kind, name) for place, (kind, name) in places
              if kind == 'callback' or kind in CALLBACKS]
    return ({f'{place}.{name}' for place, _, name in places}
            | CALLBACKS - {kind for _, kind, _ in places})


def without(names, reasons):
    """The names for which there is no reason to be missing; a reason needs a name as well."""
    unused = [one for one in reasons if not any(re.fullmatch(one, name) for name in names)]
    check(not unused, f'there is no {", ".join(unused)}')
    return {name for name in names if not any(re.fullmatch(one, name) for one in reasons)}


def calls_from_hooks(functions_called):
    """Builds and runs the other matrix, in C: (object, hook, action, function) for each call."""
    folder = BUILD / 'callbacks'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'called.h').write_text(''.join(
        f'#define {name}(...) (called("{name}"), {name}(__VA_ARGS__))\n'
        for name in functions_called))
    run(FASTEST[0], '-std=gnu11', '-w', '-DCALLED="called.h"', f'-I{folder}', f'-I{ROOT}',
        f'-I{ROOT}/tests', CALLBACK_MATRIX, ROOT / 'tests/rm.c', '-pthread', '-o', folder / 'run')
    return {tuple(line.split('|')) for line in run(folder / 'run').splitlines() if '|' in line}


def callback_matrix():
    """Every function of the objects that have hooks is called inside every hook of its object."""
    wanted, names = without(hooks(), NO_HOOKS), sorted(without(PARAMETERS, NO_ACTION))
    rows = calls_from_hooks(names)
    scenes = {(thing, hook) for thing, hook, _, _ in rows}
    there = {hook for _, hook in scenes}
    missing = [f'no scene of {hook}' for hook in sorted(wanted - there)]
    missing += [f'{hook}: there is no such hook' for hook in sorted(there - wanted)]
    for name in names:
        seen = {(thing, hook) for thing, hook, action, function in rows
                if function == name and re.search(rf'\b{name}\b', action)}
        if not seen:
            missing.append(f'no action that names and calls {name}')
        missing += [f'{name} is not called in {hook} of a {thing}' for thing, hook in
                    sorted(scenes - seen) if thing in {other for other, _ in seen}]
    check(not missing, '\n'.join(missing))
    return f'{len(scenes)} hooks of objects, {len(rows)} rows'


def misuse(build):
    folder = BUILD / build
    folder.mkdir(parents=True, exist_ok=True)
    texts = {'calls.c': program(), 'rm.c': '#define RM_IMPLEMENTATION\n' + INCLUDES}
    for name, text in texts.items():
        (folder / name).write_text(text)
    compiler = [FASTEST[0], '-std=gnu11', '-Wall', '-Wextra', '-Werror', *BUILDS[build],
                f'-I{ROOT}', f'-I{ROOT}/tests', '-pthread']
    run(*compiler, '-c', folder / 'rm.c', '-o', folder / 'rm.o')
    run(*compiler, '-O0', folder / 'calls.c', folder / 'rm.o', '-lm', '-o', folder / 'run')
    said = run(folder / 'run', env={'ASAN_OPTIONS': 'allocator_may_return_null=1'},
               fails=bool(KNOWN))
    failures = re.findall(r'^# (rm_.*)', said, re.M)
    check(all(any(re.match(one, failure) for one in KNOWN) for failure in failures), said)
    for one, reason in KNOWN.items():
        check(any(re.match(one, failure) for failure in failures), f'not any more: {one}: {reason}')
    return '\n'.join([said.splitlines()[-1]] + [f'known: {reason}' for reason in KNOWN.values()])


def rows():
    yield 'every hook calls every function of its object', callback_matrix
    yield 'an argument for every parameter, and no other', every_parameter
    for build in BUILDS:
        name = f'every function with every argument misused, {build}'
        yield name, functools.partial(misuse, build)


if __name__ == '__main__':
    sys.exit(report(list(rows())))
