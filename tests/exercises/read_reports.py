"""Reads grade.json as Gradescope's autograder does, and grade.xml as CI systems do."""
import json
import sys
import xml.etree.ElementTree as xml

with open(sys.argv[1], encoding="ascii") as file:
    results = json.load(file)
tests = results["tests"]
assert tests and all(isinstance(test["name"], str) for test in tests)
assert all(0 <= test["score"] <= test["max_score"] for test in tests)
assert all(test["status"] in ("passed", "failed") for test in tests)
assert all(test["output"] for test in tests if test["status"] == "failed")
assert results["score"] == sum(test["score"] for test in tests)
assert isinstance(results["execution_time"], int)

root = xml.parse(sys.argv[2]).getroot()
cases = root.findall("./testsuite/testcase")
failures = root.findall("./testsuite/testcase/failure")
assert root.tag == "testsuites" and len(cases) == len(tests) == int(root.get("tests"))
assert len(failures) == int(root.get("failures"))
assert sum(int(suite.get("tests")) for suite in root) == len(cases)
assert all(failure.get("message") for failure in failures)
assert all(case.get("name") and case.get("classname") and float(case.get("time")) >= 0 for case in cases)
