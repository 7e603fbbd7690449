-- The clinic as its own application would make it. Nothing in here knows of phiproxy.
CREATE TABLE patients (
    id            serial PRIMARY KEY,
    mrn           varchar(12) NOT NULL,
    ssn           text NOT NULL UNIQUE,
    full_name     text NOT NULL,
    date_of_birth date NOT NULL,
    phone         varchar(24),
    address       text,
    notes         text,
    city          text,
    registered_on date NOT NULL DEFAULT current_date
);
CREATE TABLE visits (
    id         serial PRIMARY KEY,
    patient_id integer NOT NULL REFERENCES patients (id) ON DELETE CASCADE,
    mrn        varchar(12) NOT NULL,
    visited_on date NOT NULL,
    diagnosis  text,
    room       text
);
CREATE INDEX visits_patient ON visits (patient_id);
