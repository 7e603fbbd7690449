"""The demo's clinic: its schema, its policy, and synthetic patients. Nobody in here exists."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib import resources

from faker import Faker

DATABASE = "clinic"
PATIENTS = 1000
SEED = 20261124

POLICY = """\
database: clinic
deployment: clinic-demo
domains:
  mrn: {type: varchar(12), indexes: [value], distinct: 1000000}
tables:
  public.patients:
    subject: id
    columns:
      ssn:       {type: text, indexes: [ssn], distinct: 100000000}
      full_name: {type: text, indexes: [full_name], distinct: 1000000}
      mrn:       {domain: mrn}
      date_of_birth:
        type: date
        indexes: [date_of_birth, extract(year from date_of_birth)]
        accept_leakage: "the demo: nobody in here exists"
      phone:     {type: varchar(24), indexes: [phone], distinct: 1000000}
      address:   {type: text}
      notes:     {type: text, pad: 64}
  public.visits:
    subject: patient_id
    columns:
      mrn:       {domain: mrn}
      diagnosis: {type: text, indexes: [diagnosis], accept_leakage: "the demo: nobody in here exists"}
"""

CONFIG = """\
listen: 127.0.0.1:{port}
upstream: {{address: "127.0.0.1:{server_port}", tls: disable}}   # the demo's own server, on this machine
service: {{user: phiproxy, password: "file:{directory}/service.password"}}
keys: {{kek: "local:kek.json"}}
policies: [policy.yaml]
compute: {{engine: embedded, binaries: "{binaries}"}}   # the same PostgreSQL, beside the proxy
audit: {{directory: audit, proxy: demo, checkpoint: 1s}}
metrics: null
"""

DIAGNOSES = (
    "E11.9 type 2 diabetes mellitus without complications",
    "I10 essential (primary) hypertension",
    "J45.909 unspecified asthma, uncomplicated",
    "M54.50 low back pain, unspecified",
    "F41.1 generalized anxiety disorder",
    "N39.0 urinary tract infection, site not specified",
    "J06.9 acute upper respiratory infection, unspecified",
    "E78.5 hyperlipidemia, unspecified",
    "K21.9 gastro-oesophageal reflux disease without oesophagitis",
    "G43.909 migraine, unspecified, not intractable",
)


@dataclass(frozen=True, slots=True)
class Patient:
    """A synthetic patient and the dates, diagnoses and rooms of the visits."""

    mrn: str
    ssn: str
    full_name: str
    date_of_birth: date
    phone: str
    address: str
    notes: str
    city: str
    visits: tuple[tuple[date, str, str], ...]


def schema() -> str:
    """Return the SQL that makes the clinic's tables."""
    return resources.files("phiproxy.demo").joinpath("clinic.sql").read_text(encoding="utf-8")


def patients(count: int = PATIENTS, seed: int = SEED) -> Iterator[Patient]:
    """Yield the same ``count`` patients for the same seed, with unique SSNs."""
    fake = Faker("en_US")
    fake.seed_instance(seed)
    for number in range(count):
        visits = tuple(
            (
                fake.date_between(date(2024, 1, 1), date(2026, 10, 31)),
                fake.random_element(DIAGNOSES),
                f"{fake.random_int(1, 40):03}",
            )
            for _ in range(fake.random_int(1, 4))
        )
        yield Patient(
            mrn=f"MRN{number:07}",
            ssn=fake.unique.ssn(),
            full_name=fake.name(),
            date_of_birth=fake.date_between(date(1930, 1, 1), date(2023, 12, 31)),
            phone=fake.numerify("(###) ###-####"),
            address=fake.address().replace("\n", ", "),
            notes=fake.sentence(12),
            city=fake.city(),
            visits=visits,
        )
