"""Lists of exceptions: regular expressions, one a line, in paragraphs that begin with the reason.

    # the reason, on one or more lines
    rm_pool.h: a regular expression, to be found at the start of a finding
"""
import re


class Rules:
    def __init__(self, path):
        self.rules, self.unused = [], []
        for paragraph in path.read_text().split('\n\n'):
            rules = [line for line in paragraph.splitlines() if not line.startswith('#')]
            if not paragraph.startswith('#'):
                raise ValueError(f'{path.name}: no reason for {paragraph}')
            self.rules += map(re.compile, rules)
        self.unused = list(self.rules)

    def match(self, finding):
        """Tells whether a rule matches the finding, and notes that it was of use."""
        found = [rule for rule in self.rules if rule.match(finding)]
        self.unused = [rule for rule in self.unused if rule not in found]
        return bool(found)
