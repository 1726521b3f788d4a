"""Records what real Spack says of queries: spack python record.py FIXTURE... > satisfies.json

Each FIXTURE is an index of a buildcache. Spack needs its mock repository (var/spack/test_repos/spack_repo/builtin_mock) as its
only one, and two compilers, gcc@13.4.0 and llvm@18.1.8, as externals. With --targets it writes targets.json instead, from the
archspec that Spack carries.
"""
import copy
import hashlib
import itertools
import json
import os
import random
import sys

import spack.concretize
import spack.spec
import spack.vendor.archspec.cpu
import spack.version

random.seed(1)

if "--targets" in sys.argv:
    known = {n: [p.name for p in t.parents] for n, t in spack.vendor.archspec.cpu.TARGETS.items()}
    print("{\n" + ",\n".join(f"{json.dumps(n)}: {json.dumps(known[n])}" for n in sorted(known)) + "\n}")
    sys.exit()

answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

ROOTS = [
    "mpileaks@2.3+debug ^mpich@3.0.4 ^callpath@0.9 %llvm", "mpileaks@2.2~shared cflags='-O2 -g' ^zmpi", "callpath@1.0 ^mpich2",
    "multivalue-variant foo=bar,baz fee=baz libs=shared,static ^mpich", "multivalue-variant foo=barbaz libs=static ^mpich@3.0.1",
    "patch@1.0", "dttop", "py-extension1@2.0", "dt-diamond", "depends-on-openmpi", "singlevalue-variant fum=nope",
    "adios2+bzip2", "libelf@0.8.12 ldflags='-L/a -Wl,-s' cppflags=-DX", "parent-foo-bar+foo~bar", "hdf5",
]


def made(seed):
    digits = hashlib.sha256(seed.encode()).digest()
    return "".join("abcdefghijklmnopqrstuvwxyz234567"[b % 32] for b in digits)


documents = []  # of one package with its dependencies
for root in ROOTS:
    documents.append(spack.concretize.concretize_one(spack.spec.Spec(root)).to_dict())
for fixture in sys.argv[1:]:
    with open(fixture) as f:
        database = json.load(f)["database"]
    installs = {h: r["spec"] for h, r in database["installs"].items()}
    for root in installs:
        order = [root]
        for h in order:
            order += [d["hash"] for d in installs[h].get("dependencies", []) if d["hash"] not in order]
        # Spack asks recipes what provides a virtual package, and knows those of one repository.
        for h in order:
            installs[h]["namespace"] = "builtin_mock"
        version = {"7": 4, "8": 5}[database["version"]]
        documents.append({"spec": {"_meta": {"version": version}, "nodes": [installs[h] for h in order]}})

CHANGES = [
    {"version": v} for v in ("develop", "main", "1.2.3", "1.2.3-rc1", "1.2.3-rc", "1.2.3alpha2", "2024.04.1", "1.10", "1.9", "git.feature/x=1.2.3", "git.main=develop",
                             "0123456789012345678901234567890123456789=1.10", "12c", "6.0.3-p1", "stable", "1_2-3.4", "007", "2.0final3")
] + [
    {"target": t} for t in ("x86_64", "x86_64_v2", "x86_64_v4", "zen4", "zen2", "icelake", "skylake_avx512", "aarch64", "neoverse_v1", "neoverse_n1", "a64fx", "power9le", "quantum", "m1")
] + [{"os": o} for o in ("rocky9", "ubuntu22.04", "sles15", "macos14")] + [{"platform": "darwin", "os": "sonoma", "target": "m2"}, {"namespace": "site"}] + [
    {"parameters": p} for p in ({"cuda": True, "cuda_arch": ["80", "90"], "cxxstd": "17"}, {"cuda": False, "cuda_arch": ["none"], "cxxstd": "20"}, {"cflags": ["-O3", "-march=native"]},
                                {"build_system": "cmake", "build_type": "Release", "generator": "ninja"}, {"patches": ["abcdef12", "0123abcd"]}, {"debug": True, "shared": False})
]
for i, change in enumerate(CHANGES):
    document = copy.deepcopy(documents[i % 3])
    node = document["spec"]["nodes"][0]
    node["hash"] = made(f"change {i}")
    for name, value in change.items():
        if name == "parameters":
            node["parameters"].update(value)
        elif name in ("target", "os", "platform"):
            node["arch"][{"os": "platform_os"}.get(name, name)] = value
        else:
            node[name] = value
    documents.append(document)

nodes, specs = {}, {}
for document in documents:
    copied = copy.deepcopy(document)
    spec = spack.spec.Spec.from_dict(copied)
    for node in document["spec"]["nodes"]:
        nodes.setdefault(node["hash"], node)
    for s in spec.traverse():
        specs.setdefault(s.dag_hash(), s)
hashes = sorted(specs)

NAMES = ["mpileaks", "callpath", "mpich", "zlib", "slurm", "openmpi", "gcc", "llvm", "hwloc", "*", "builtin_mock.mpileaks", "builtin.zlib", "site.callpath", "dyninst", "libelf", "hdf5", "mpi", "nosuch", "multivalue-variant", ""]
VERSIONS = ["@1.0", "@=1.0", "@1:", "@:1", "@1.2", "@1.2:1.9", "@1.2.3", "@=1.2.3", "@1.2.3-rc1", "@:1.2.3-rc1", "@1.2.3-rc:", "@1.10", "@1.9:", "@develop", "@main:", "@:main", "@2:", "@:2,3:", "@1.0,2.3", "@=2.3,=1.0",
            "@git.feature/x=1.2.3", "@git.main=develop", "@0123456789012345678901234567890123456789=1.10", "@:", "@13", "@13:", "@:12", "@=13.4.0", "@5:", "@2024", "@7", "@12c", "@6.0.3-p1", "@stable:", "@2.0", "@ 1.0 , 2.3"]
VARIANTS = ["+debug", "~debug", "-debug", "~shared", "+shared", "+cuda", "~cuda", "cuda_arch=80", "cuda_arch=80,90", "cuda_arch=90,80", "cuda_arch:=80", "cuda_arch:=90,80", "cuda_arch=*", "cxxstd=17", "cxxstd=17,20", "cxxstd:=17",
            "debug=true", "debug=False", "debug=*", "foo=bar", "foo=bar,baz", "foo:=bar", "foo:=baz,bar", "foo=barbaz", "fee=baz", "libs=static", "libs=shared,static", "build_system=cmake", "build_system=generic", "build_type=Release",
            "patches=abc", "patches=abcdef12,0123", "patches:=abcdef12,0123abcd", "++debug", "~~debug", "++shared", "build_system==generic", "nosuch=1", "+nosuch", "cflags=-O2", "cflags='-O2 -g'", 'cflags="-g"', "cflags=-O3", "cflags=-O1", "ldflags='-L/a -Wl,-s'", "cppflags=-DX", "fum=nope"]
ARCHS = ["os=rocky9", "os=ubuntu22.04", "os=debian12", "target=zen4", "target=x86_64_v3", "target=x86_64_v3:", "target=:x86_64_v3", "target=x86_64:zen4", "target=x86_64", "target=aarch64:", "target=aarch64:neoverse_v1", "target=zen4:,icelake", "target=:icelake",
         "target=quantum", "target=*", "os=*", "platform=*", "platform=linux", "platform=darwin", "arch=linux-rocky9-x86_64_v3", "arch=linux-ubuntu22.04-x86_64_v3", "arch=x86_64_v3", "target=haswell:", "target=power9le", "target=x86_64:,aarch64:", "target=m1:", "namespace=builtin_mock", "namespace=site", "operating_system=sles15", "architecture=darwin-sonoma-m2"]
DEPENDENCIES = ["%gcc", "%gcc@13", "%gcc@13:", "%gcc@:12", "%llvm", "%clang", "%clang@18", "%c=gcc", "%c,cxx=gcc@13.4.0", "%c=llvm", "%cxx", "%fortran", "^mpich", "^mpich@3", "^mpich@3.0.4", "^mpi", "%mpi", "^zmpi", "^[virtuals=mpi] mpich", "^[virtuals=mpi] zmpi",
                "^libelf", "^libelf@0.8.13", "^libelf target=x86_64_v3", "^dyninst %gcc", "^callpath ^dyninst", "^callpath %gcc", "^callpath@1.0 %llvm", "^mpich+debug", "^mpich~debug", "%[deptypes=build] gcc", "%[deptypes=link] mpich", "%[deptypes=build,link] mpich", "%[deptypes=link] gcc",
                "%callpath", "%dyninst", "^mpich %gcc@13", "^zlib", "^zlib@1.3:", "%openssl", "^openssl@3", "^pmix ^hwloc", "^hwloc@2:", "^gcc", "^gcc@13", "^glibc", "%glibc", "^gcc-runtime", "^slurm", "%slurm@24", "^slurm %gcc@13.3.0", "^nosuch", "%nosuch", "^mpich os=debian12", "^mpi ^libelf", "^ +debug", "^ os=ubuntu22.04", "%c", "^c=gcc", "^mpi=mpich", "^mpi=mpich@3",
                "^mpich@3 ^mpich~debug", "%gcc %llvm", "%gcc@13 %gcc@12", "^dtlink1", "^dtbuild1", "^dtrun1", "^dtlink3", "^dtbuild2", "%dtrun1", "^mpich%gcc", "^builtin_mock.mpich", "^site.mpich", "^/" + hashes[3][:5], "%gcc +nosuch", "%gcc target=x86_64", "%gcc@13.4.0 languages=c"]
ODD = ["", "  ", "zlib slurm", "zlib hwloc@2:", "a b c", "zlib@1.3 @1.2", "@1.2@1.3", "+debug+debug", "+debug~debug", "zlib+", "@", "zlib@", "^", "%", "zlib ^", "zlib^%", "foo=", "foo= ", "foo=''", "'", "\"", "zlib!", "zlib;", "(", "zlib@1:2:3", "zlib@1..2", "@3:2", "@1.2,3:2", "/", "//", "/abc /abd",
       "zlib/" + hashes[0][:4], "/" + hashes[0], "/" + hashes[1][:3], "/" + hashes[1][:3] + "zz", "./x.json", "/x.json", "a/b.yaml", "target=zen4:nosuch", "target=nosuch", "target=fe", "os=fe", "+os", "~target", "os==rocky9", "target==zen4", "foo=*,bar", "foo==*", "zlib@1.2:target=zen4", "zlib@1.2: target=zen4", "@1.2:os=rocky9", "@:debug=true", "@1:+debug",
       "zlib%gcc^openmpi", "zlib % gcc", "zlib ^ gcc", "zlib % c=gcc", "zlib %[virtuals=c] gcc@13", "zlib %[virtuals=c", "zlib %[foo=bar] gcc", "zlib %[deptypes=nosuch] gcc", "zlib %%gcc", "mpileaks ++debug ^mpich", "~ debug", "+ debug", "-- debug", "debug=TRUE", "foo:=*", "*", "* +debug", "*+debug", "a.b.c", "a.b.", ".a", "-debug", "--debug", "@git.x", "@git.", "@git.a=", "zlib@=1.2:1.3", "zlib@=1.2,1.3",
       "cflags=-O2 cflags=-g", "cflags='a b'", "cflags=''", "+cflags", "cflags==-O2", "x" * 300, "zlib@" + "1" * 100, "zlib\t+debug", "zlib\n+debug", "zlib@1.2\x00", "z\u00e9", "foo='b\\'r'", "foo=\"a b\"", "foo='a'b'", "^zlib^zlib", "^zlib@1:^zlib@:2", "%gcc ^gcc", "^gcc %gcc", "arch=a-b", "arch=a-b-c-d", "arch=--", "target=", "target=a,b", "target=zen2:zen4", "target=zen4:zen2",
       "target=:", "target=zen4,zen2:", "namespace=", "versions=1", "languages=c,c++", "languages:='c,c++,fortran'", "languages='c,c++'", "%gcc languages=c", "^mpich^libelf%gcc", "mpileaks%c=gcc^mpi=mpich", "hdf5@1.14:+mpi%gcc@13target=zen4", "zlib-ng@2", "py-extension1@2.0 ^python@3:", "^python", "%python", "dt-diamond ^dt-diamond-bottom", "mpi", "c", "cxx", "mpi+debug", "mpi ^libelf", "mpi@3:"]

queries = list(ODD) + [v for v in VERSIONS + VARIANTS + ARCHS + DEPENDENCIES] + [n for n in NAMES]
parts = [VERSIONS, VARIANTS, VARIANTS, ARCHS, DEPENDENCIES, DEPENDENCIES]
while len(queries) < 1400:
    chosen = [random.choice(p) for p in parts if random.random() < 0.33]
    name = random.choice(NAMES)
    glue = random.choice(["", " "])
    queries.append((name + glue + " ".join(chosen)).strip())
    if name in ("mpileaks", "slurm", "openmpi") and chosen:
        queries.append(" ".join(chosen))
queries = sorted(set(queries))


def verdict(query):
    parsed = spack.spec_parser.parse(query)
    if not parsed:
        return list(range(len(hashes)))
    found = []
    for i, h in enumerate(hashes):
        if any(specs[h].satisfies(p) for p in parsed):
            found.append(i)
    return found


import spack.spec_parser  # noqa: E402

rows = []
for query in queries:
    try:
        rows.append({"query": query, "found": verdict(query)})
    except Exception as e:
        rows.append({"query": query, "error": type(e).__name__})

VERSION_TEXTS = ["", "0", "1", "01", "1.0", "1.0.0", "1.2", "1.2.3", "1.2.3.4", "1.10", "1.9", "2", "10", "1a", "1.a", "a", "b", "A", "z", "Z", "zA", "1.2-rc1", "1.2rc1", "1.2-rc", "1.2-rc2", "1.2-rc10", "1.2-alpha", "1.2-beta3", "1.2final3", "1.2final", "rc1", "rc", "1rc", "alpha", "1.alpha.2", "develop", "main", "master", "head", "trunk", "nightly", "stable", "develop-foo",
                 "1.develop", "develop.1", "infinity", "2024.04.1", "2024-04-1", "20240401", "1_2", "1-2", "1..2", "-", ".", "_", "99999999999999999999999", "99999999999999999999998", "0000000000000000000000001", "git.main=develop", "git.x=1.2", "git.x=1.2-rc1", "git.y=1.2", "0123456789012345678901234567890123456789=1.2", "masteq", "mastes", "maste", "mai", "1.2.z", "1.2.zz", "1.2.Z", "p1", "6.0.3-p1", "v1.2", "1.2v", "12c", "9.0.1b"]
versions = {}
for text in VERSION_TEXTS:
    try:
        versions[text] = spack.version.Version(text)
    except Exception:
        versions[text] = None
standard = [t for t in versions if isinstance(versions[t], spack.version.StandardVersion)]
order = []
for a, b in itertools.product(standard, standard):
    order.append("<" if versions[a] < versions[b] else "=" if versions[a] == versions[b] else ">")
plain = [t for t in standard if t and "=" not in t and t[0] not in "-._" or t in ("1..2",)]
ranges = [f"{a}:{b}" for a, b in itertools.product(random.sample(plain, 14), random.sample(plain, 14))]
ranges += [f"{a}:" for a in plain] + [f":{a}" for a in plain] + plain + [f"={a}" for a in plain] + [":", "1.2:1.3,develop", "git.x=1.2", "git.y=1.2", "=git.x=1.2", "0123456789012345678901234567890123456789=1.2", "=1.2:", ":=1.2", "1.2,", ",1"]
range_rows = []
for text in sorted(set(ranges)):
    try:
        r = spack.version.VersionList([spack.version.from_string(text)])
        held = "".join("1" if spack.version.VersionList([versions[t]]).satisfies(r) else "0" for t in versions if versions[t])
        range_rows.append({"range": text, "holds": held})
    except Exception as e:
        range_rows.append({"range": text, "error": type(e).__name__})


def lines(items):
    return "[\n" + ",\n".join(json.dumps(i, separators=(",", ":")) for i in items) + "\n]"


answers.write('{"spack":%s,\n"nodes":%s,\n"packages":%s,\n"queries":%s,\n"versions":%s,\n"bad_versions":%s,\n"standard":%s,\n"order":%s,\n"ranges":%s}\n' % (
    json.dumps(spack.spack_version), lines(nodes[h] for h in sorted(nodes)), lines(hashes), lines(rows), lines(t for t in versions if versions[t]), json.dumps([t for t in versions if not versions[t]]),
    json.dumps(standard), json.dumps("".join(order)), lines(range_rows)))
answers.close()
