#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""schema.py SCHEMAS FIELDS FILE...: each file is as its schema in the folder SCHEMAS says, and
the schema says it of every member: without any one of them, or with one more, the file is
refused. FIELDS: result_fields.inc, whose members a result's schema has, and no other."""
import copy
import json
import os
import re
import sys
import warnings

try:
    import jsonschema
except ImportError:
    print("skipped: no python3-jsonschema here")
    sys.exit(77)


def holders(node, path=""):
    """Every object in a document, with its path."""
    if isinstance(node, dict):
        yield path, node
        for name, value in node.items():
            yield from holders(value, path + "." + name)
    elif isinstance(node, list) and node:
        yield from holders(node[0], path + "[0]")


def paths(properties, prefix=""):
    for name, value in properties.items():
        yield prefix + name
        yield from paths(value.get("properties", {}), prefix + name + ".")


def optional(schema, path, member):
    """Whether the schema lets an object at that path be without that member."""
    for name in re.findall(r"\w+|\[0\]", path):
        schema = schema.get("items" if name == "[0]" else "properties", {})
        schema = schema if name == "[0]" else schema.get(name, {})
    return member in schema.get("properties", {}) and member not in schema.get("required", [])


# Objects whose members depend on version, host or model.
FREE = re.compile(r"hosts|profile|counters|mmu_options|cycles_by_cost|flushes|vm_exits|parameters$|capabilities$|^(\.host)?\.mmu$")
warnings.simplefilter("ignore", DeprecationWarning)  # RefResolver, which old releases need
schemas, fields, *files = sys.argv[1:]
bad = 0
tried = 0
for name in files:
    document = json.load(open(name))
    schema = json.load(open(f"{schemas}/{document['schema']}.json"))
    # A schema may refer to one beside it.
    beside = jsonschema.RefResolver(f"file://{os.path.abspath(schemas)}/", schema)
    validator = jsonschema.validators.validator_for(schema)(schema, resolver=beside)
    validator.check_schema(schema)
    for error in validator.iter_errors(document):
        print(f"FAIL: {name}: {error.json_path}: {error.message}")
        bad = 1
    for path, _ in holders(document):
        if FREE.search(path):
            continue
        for member in [*dict(holders(document))[path], None]:
            changed = copy.deepcopy(document)
            holder = dict(holders(changed))[path]
            if member is None:
                holder["one_more"] = 1
            elif member == "shard" or optional(schema, path, member):
                continue
            else:
                del holder[member]
            tried += 1
            if validator.is_valid(changed):
                print(f"FAIL: {name}: {path}: passes {'with one more' if member is None else 'without ' + member}")
                bad = 1
    if document["schema"].startswith("penumbra-bench"):
        listed = set(re.findall(r'^(?:KEY|FIELD|MODELLED)\("([^"]*)"', open(fields).read(), re.M))
        have = set(paths(schema["$defs"]["result"]["properties"])) | {"modelled.vm_exits.all"}
        if listed != have:
            print(f"FAIL: schema and list differ: {sorted(listed ^ have)}")
            bad = 1
print(f"{len(files)} files, {tried} changes of them")
sys.exit(bad)
