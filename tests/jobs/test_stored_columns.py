"""Where sealed values are: registered columns of bytea, in partitions and children too."""

from __future__ import annotations

from phiproxy.jobs.stored_columns import of_scopes, stored_columns
from tests.keys.fakes import Site
from tests.policy.build import make_policy


async def test_what_the_registry_knows_whether_it_is_listed_or_not(site: Site) -> None:
    await site.init()
    site.run("CREATE TABLE children (more int) INHERITS (patients)")
    site.run("ALTER TABLE visits ALTER mrn TYPE text USING NULL, ADD COLUMN phi_new_mrn bytea, ADD COLUMN phi_old_mrn text")
    policy = make_policy({"public.patients": {"ssn": {"type": "text", "pad": 64}}})
    async with site.registry() as registry, await site.connect() as conn:
        layout = await registry.layout()
        assert of_scopes(layout, ["d:mrn"]) == [("public", "patients", "mrn"), ("public", "visits", "mrn")]
        assert of_scopes(layout, []) == []
        stored = await stored_columns(conn, policy, layout, of_scopes(layout, ["d:mrn", "t:public.patients"]))
    told = [(part.label, [(column.name, column.pad) for column in columns]) for part, columns in stored]
    both = [("mrn", None), ("ssn", 64)]
    assert told == [("public.children", both), ("public.patients", both), ("public.visits", [("phi_new_mrn", None)])]
