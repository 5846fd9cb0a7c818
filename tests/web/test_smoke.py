from tests.support.builders import conda_package
from tests.support.site import Site


def test_upload_then_read(site: Site) -> None:
    site.channel("lab")
    key = site.key()
    answer = site.put("lab", conda_package(), key)
    assert answer.status_code == 201, answer.text
    assert answer.json()["indexed"] is True
    repodata = site.get("/lab/noarch/repodata.json", key).json()
    assert list(repodata["packages.conda"]) == ["demo-1.0-h0_0.conda"]
