"""The parts of a session's state begin as a server begins, and settings told are those that values are spelled in."""

from __future__ import annotations

from phiproxy.session.state_parts import SearchPath, SyncGroups, TextSettings, ValueStyles
from phiproxy.types.styles import Styles
from phiproxy.wire.encodings import UTF8


def test_a_session_begins_in_utf8_with_an_unknown_path_and_no_group_answered() -> None:
    assert TextSettings() == TextSettings(UTF8, conforming=True)
    assert SearchPath().schemas is None
    assert SyncGroups().answered < SyncGroups().number


def test_what_is_told_of_one_setting_leaves_the_others() -> None:
    styles = ValueStyles()
    styles.told({"bytea_output": "escape", "extra_float_digits": "0"})
    styles.told({"TimeZone": "Europe/Helsinki"})
    assert styles.current == Styles.of({"bytea_output": "escape", "extra_float_digits": "0", "TimeZone": "Europe/Helsinki"})
    assert styles.current.bytea_output == "escape"
