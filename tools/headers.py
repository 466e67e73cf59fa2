"""What the other tools know about the headers: names, warnings, the public functions in a text."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADERS = ['rm.h', 'rm_pool.h', 'rm_cache.h', 'rm_breaker.h', 'rm_metrics.h']
STRICT = ('-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wcast-qual -Wundef '
          '-Wdouble-promotion -Werror').split()

TOKEN = re.compile(r'''/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*\'''', re.S)
FUNCTION = re.compile(r'^(?:RM_API|static inline)\b([^;{}()=]*?)\b(\w+)\(([^;{]*)\)', re.M)
MACRO_CALL = re.compile(r'\bRMI?_[A-Z_]+\([^()]*\)')


def blank(text):
    """The text with comments, strings and characters as spaces: every offset stays the same."""
    return TOKEN.sub(lambda match: re.sub(r'[^\n]', ' ', match.group()), text)


def functions(text, prefix='rm_'):
    """The first declaration of each public function: (offset, return type, name, parameters)."""
    code = blank(text)
    code = MACRO_CALL.sub(lambda match: ' ' * len(match.group()), code)
    api = prefix.upper() + 'API'
    code = re.sub(rf'^{api}\b', 'RM_API'.ljust(len(api)), code, flags=re.M)
    seen = {}
    for match in FUNCTION.finditer(code):
        kind, name, parameters = match.groups()
        if name.startswith(prefix):
            seen.setdefault(name, (match.start(), ' '.join(kind.split()), name, parameters))
    return list(seen.values())
