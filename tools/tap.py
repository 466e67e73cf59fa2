"""Runs checks in parallel and reports them as TAP.  A check is a function that may raise, or return
a note.  It does not print: lines of several threads would run into each other."""
import concurrent.futures
import os
import shutil
import subprocess
import traceback

os.environ['LC_ALL'] = 'C'  # the checks read what compilers say
# What compiles in the least time, for C and C++.
FASTEST = ('clang', 'clang++') if shutil.which('clang') else ('gcc', 'g++')

class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def run(*command, fails=False, **options):
    """Runs a command and returns all it printed.  fails=True: it must not succeed."""
    options = {'timeout': 120, 'stdin': subprocess.DEVNULL, **options}
    try:
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors='replace', **options)
    except subprocess.TimeoutExpired as error:
        raise Failed(f'{" ".join(map(str, command))}\nran too long') from error
    if (done.returncode != 0) != fails:
        raise Failed(f'{" ".join(map(str, command))}\nexit status {done.returncode}\n{done.stdout}')
    return done.stdout


def check(condition, message):
    if not condition:
        raise Failed(message)


def outcome(function):
    try:
        return True, '', function() or ''
    except Skipped as reason:
        return True, f' # SKIP {reason}', ''
    except (Failed, OSError) as error:
        return False, '', str(error)
    except Exception:  # a mistake in the check itself is a failure too
        return False, '', traceback.format_exc()


def report(rows):
    """Runs the rows, (name, function) each; prints them in their order; returns the exit status."""
    failed = 0
    print(f'1..{len(rows)}', flush=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = pool.map(outcome, [function for _, function in rows])
        for number, ((name, _), (ok, skip, message)) in enumerate(zip(rows, outcomes), 1):
            for line in message.splitlines():
                print('# ' + line)
            print(f'{"ok" if ok else "not ok"} {number} - {name}{skip}', flush=True)
            failed += not ok
    print(f'{len(rows) - failed} passed, {failed} failed')
    return int(failed > 0 or not rows)
