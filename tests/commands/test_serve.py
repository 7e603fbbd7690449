"""``phiproxy serve``: that it starts and serves is what tests/integration is about; here, that it says why it does not."""

from tests.commands.conftest import Clinic


def test_without_a_registry(clinic: Clinic) -> None:
    code, out, err = clinic.run("serve")
    assert (code, out) == (1, "")
    assert err.startswith("phiproxy: ")
    assert "Traceback" not in err


def test_a_broken_configuration(clinic: Clinic) -> None:
    clinic.config.write_text("lisen: x\n")
    assert clinic.run("serve") == (1, "", f"phiproxy: {clinic.config}:1:1: unknown key 'lisen'; did you mean 'listen'?\n")
