"""Judges spec documents as this Spack does: spack python judge.py < documents > verdicts.

Each line of the input is an object with "document", the text of a spec, and "version", that of the index that holds its nodes.
Each line of the output has what Spack did with the document and with an index of its nodes: "reads", or the exception.
"""
import json
import os
import pathlib
import sys
import tempfile

import spack.binary_distribution
import spack.spec

sys.stderr = open(os.devnull, "w")  # warnings about dependencies that are not there
# The answers go to what is standard output now, and what Spack prints does not.
answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def judged(act):
    try:
        act()
        return "reads"
    except Exception as e:
        return type(e).__name__


def read_index(directory, document, version):
    nodes = json.loads(document)["spec"]["nodes"]
    installs = {n["hash"]: {"spec": n, "ref_count": 0, "in_buildcache": True} for n in nodes}
    path = pathlib.Path(directory, "index.json")
    path.write_text(json.dumps({"database": {"version": str(version), "installs": installs}}))
    spack.binary_distribution.BuildCacheDatabase(directory)._read_from_file(path)


with tempfile.TemporaryDirectory() as directory:
    for line in sys.stdin:
        row = json.loads(line)
        document = judged(lambda: spack.spec.Spec.from_dict(json.loads(row["document"])))
        index = judged(lambda: read_index(directory, row["document"], row["version"]))
        answers.write(json.dumps({"document": document, "index": index}) + "\n")
answers.close()
