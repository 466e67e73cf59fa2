#!/usr/bin/env python3
"""Writes the headers as single files: python3 tools/dist.py OUT [PREFIX]

OUT gets each header with rm.h inlined, rm_all.h with all of them, and rm.c.  With a PREFIX such as
foo_ every name changes: rm_ to foo_, rmi_ to fooi_, RM_ to FOO_, RMI_ to FOOI_, in comments and
file names too.  Strings stay as they are (metric names, messages), also where a comment quotes
them, except in #error and #include.
"""
import pathlib
import re
import sys

from headers import HEADERS, ROOT, TOKEN

INCLUDE = re.compile(r'^#include "(rm\w*\.h)".*\n', re.M)
NAME = re.compile(r'(?<![A-Za-z0-9])(rm|RM)(?=[iI]?_)|\brm(?=\.[ch]\b)')
QUOTED = re.compile(r'("(?:rm|RM)_\w+")')  # by a comment
DIRECTIVE = r'^[ \t]*#[ \t]*(?:error|include)(?:[^\n]*\\\n)*[^\n]*'
TEXT = re.compile(rf'({DIRECTIVE}|{TOKEN.pattern})', re.S | re.M)


def inline(text, seen):
    """Puts each rm header where it is included, the first time only."""
    def replace(match):
        name = match.group(1)
        if name in seen:
            return ''
        seen.add(name)
        return inline((ROOT / name).read_text(), seen)
    return INCLUDE.sub(replace, text)


def rename(text, prefix):
    stem = prefix.rstrip('_')

    def names(piece):
        return NAME.sub(lambda name: stem.upper() if name[0] == 'RM' else stem, piece)

    pieces = TEXT.split(text)
    for i, piece in enumerate(pieces):
        if piece[:1] not in ('"', "'"):
            parts = QUOTED.split(piece)
            parts[::2] = map(names, parts[::2])
            pieces[i] = ''.join(parts)
    return ''.join(pieces)


def main(out, prefix='rm_'):
    if not re.fullmatch(r'[a-z][a-z0-9]*_', prefix):
        sys.exit(f'dist: the prefix "{prefix}" must be lower case and end in "_", like foo_')
    everything = ''.join(f'#include "{name}"\n' for name in HEADERS)
    files = {name: (ROOT / name).read_text() for name in HEADERS}
    files = {name: inline(text, {name}) for name, text in files.items()}
    files['rm_all.h'] = inline(everything, set())
    for name, text in files.items():
        files[name] = f'/* {name}: generated, edit the source */\n{text}'
    files['rm.c'] = ('#define RM_IMPLEMENTATION /* generated, edit the source */\n'
                     '#include "rm_all.h"\n')

    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace('rm', prefix.rstrip('_'), 1)).write_text(
            text if prefix == 'rm_' else rename(text, prefix))


if __name__ == '__main__':
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
