// What an application on node-postgres says; prints what it was told, as JSON. Arguments: a DSN, and the values as JSON.
"use strict";

const { pipeline } = require("node:stream/promises");
const { Readable } = require("node:stream");
const { Client, Pool } = require("pg");
const Cursor = require("pg-cursor");
const { from, to } = require("pg-copy-streams");

const [dsn, given] = process.argv.slice(2);
const patients = JSON.parse(given);
const told = [];

function tell(what, result) {
  const fields = result.fields.map((f) => [f.name, f.dataTypeID, f.dataTypeModifier, f.columnID, f.format]);
  told.push([what, result.command, result.rowCount, fields, result.rows]);
}

async function fails(what, promise) {
  const error = await promise.then(
    () => ({ code: "none" }),
    (e) => e,
  );
  told.push([what, error.code]);
}

async function parameterised(client) {
  const insert = "INSERT INTO patients (mrn, ssn, notes, visits_count, active) VALUES ($1, $2, $3, $4, $5) RETURNING *";
  for (const [n, p] of patients.entries()) {
    tell("insert", await client.query(insert, [p.mrn, p.ssn, n % 2 ? p.notes : null, n, n % 3 === 0]));
  }
  tell("find", await client.query("SELECT * FROM patients WHERE ssn = $1", [patients[1].ssn]));
  tell("any", await client.query("SELECT id, mrn FROM patients WHERE ssn = ANY($1) ORDER BY id", [patients.map((p) => p.ssn)]));
  tell("array", await client.query({ text: "SELECT mrn, ssn FROM patients ORDER BY id", rowMode: "array" }));
  tell("nothing", await client.query("SELECT notes FROM patients WHERE ssn = $1", ["nobody"]));
}

async function prepared(client) {
  for (const p of patients) {
    tell("prepared", await client.query({ name: "by ssn", text: "SELECT id, ssn FROM patients WHERE ssn = $1", values: [p.ssn] }));
  }
  const change = "UPDATE patients SET notes = $1 WHERE mrn = $2 RETURNING notes";
  for (const p of patients.slice(0, 3)) {
    tell("changed", await client.query({ name: "change", text: change, values: [`again ${p.notes}`, p.mrn] }));
  }
}

async function simple(client) {
  const several = await client.query("BEGIN; SELECT ssn FROM patients ORDER BY id LIMIT 2; SELECT count(*) FROM patients; COMMIT");
  several.forEach((result) => tell("several", result));
}

async function cursor(client) {
  const open = client.query(new Cursor("SELECT id, ssn, notes FROM patients WHERE id > $1 ORDER BY id", [0]));
  for (let n = 0; n < 3; n += 1) {
    told.push(["cursor", await open.read(2)]);
  }
  await open.close();
}

async function copies(client) {
  const lines = patients.map((p, n) => `${1000 + n}\t${p.phone}\t${n % 2 ? "\\N" : p.full_name}\n`);
  await pipeline(Readable.from(lines), client.query(from("COPY patients (id, phone, full_name) FROM STDIN")));
  const chunks = [];
  const out = client.query(to("COPY (SELECT id, phone, full_name FROM patients ORDER BY id) TO STDOUT (FORMAT csv)"));
  for await (const chunk of out) {
    chunks.push(chunk);
  }
  told.push(["copied", Buffer.concat(chunks).toString(), out.rowCount]);
  const broken = Readable.from([`2000\t${patients[0].phone} and far more than twenty characters\t\\N\n`]);
  await fails("copy", pipeline(broken, client.query(from("COPY patients (id, phone, full_name) FROM STDIN"))));
}

async function errors(client) {
  await client.query("BEGIN");
  await client.query("UPDATE patients SET city = 'undone'");
  await fails("too long", client.query("UPDATE patients SET mrn = $1", ["longer than twelve characters"]));
  await fails("aborted", client.query("SELECT ssn FROM patients WHERE ssn = $1", [patients[0].ssn]));
  await client.query("ROLLBACK");
  await fails("division", client.query("SELECT 1 / $1::int", [0]));
  tell("after", await client.query("SELECT count(*) FROM patients WHERE city = 'undone'"));
}

async function refused(client) {
  await client.query("BEGIN");
  await fails("refused", client.query("SELECT id FROM patients WHERE upper(notes) = $1", [patients[0].notes]));
  await fails("aborted", client.query("SELECT 1"));
  await client.query("ROLLBACK");
  await fails("refused", client.query({ name: "never", text: "SELECT upper(ssn) FROM patients WHERE ssn = $1", values: ["x"] }));
  tell("after", await client.query("SELECT count(*) FROM patients"));
}

async function crowd() {
  const pool = new Pool({ connectionString: dsn, max: 4 });
  const found = await Promise.all(patients.map((p) => pool.query("SELECT ssn FROM patients WHERE mrn = $1", [p.mrn])));
  told.push(["pool", found.map((result) => result.rows)]);
  await pool.end();
}

async function main() {
  const client = new Client({ connectionString: dsn });
  await client.connect();
  for (const part of [parameterised, prepared, simple, cursor, copies, errors]) {
    await part(client);
  }
  await crowd();
  const same = told.length;
  await refused(client);
  await client.end();
  process.stdout.write(JSON.stringify([told.slice(0, same), told.slice(same)]));
}

main();
