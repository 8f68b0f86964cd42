"""Tables in a page of docs, each between two marks of its name; files replaced whole or not at all."""
import os
import sys


def replace_file(path, text):
    with open(path + ".new", "w") as f:
        f.write(text)
    os.replace(path + ".new", path)


class Place:
    """The place in `path` between <!-- name: begin --> and <!-- name: end -->. Made before minutes are spent: ends the program if there is none."""

    def __init__(self, path, name):
        self.path, self.begin, self.end = path, f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        self.around()

    def around(self):
        try:
            with open(self.path) as f:
                text = f.read()
        except OSError as e:
            sys.exit(f"cannot read '{self.path}': {e.strerror}")
        if self.begin not in text or self.end not in text:
            sys.exit(f"'{self.path}' has no lines '{self.begin}' and '{self.end}' to put the table between")
        return text.split(self.begin, 1)[0], text.split(self.end, 1)[1]

    def put(self, table):
        before, after = self.around()
        replace_file(self.path, f"{before}{self.begin}\n{table}\n{self.end}{after}")
