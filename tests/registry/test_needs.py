"""The names that a record depends on, as pages and the migration read them."""

from importlib import import_module

import pytest

from fairway.registry import needs

SPECS = (
    (["numpy", "Python >=3.9,<4", " scipy 1.*"], {"numpy", "python", "scipy"}),
    (["conda-forge::numpy", "conda-forge/linux-64::scipy >=1", 'zlib[version=">=1"]'], {"numpy", "scipy", "zlib"}),
    (["__glibc >=2.17", "__unix", "_openmp_mutex", "x__y"], {"_openmp_mutex", "x__y"}),
    (["libstdc++ 13", "r-base.x", "a=1.0=py_0", "a>=2"], {"libstdc", "r-base.x", "a"}),
    (["", "  ", "*", ">=1", "[x]", "ünï"], set()),
)


@pytest.mark.parametrize(("specs", "names"), SPECS)
def test_names_are_what_specs_begin_with(specs, names):
    assert needs.names_in({"depends": specs}) == names
    migration = import_module("fairway.db.migrations.versions.0003_what_pages_need")
    assert migration.names_of(specs) == names


def test_what_is_no_list_of_specs_needs_nothing():
    for record in ({}, {"depends": None}, {"depends": []}, {"depends": [None, 1, {}]}):
        assert needs.names_in(record) == set()
