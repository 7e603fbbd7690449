CREATE SCHEMA phiproxy;
CREATE TABLE phiproxy.announcement (
    number bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    names text[] NOT NULL
);
ALTER TABLE phiproxy.announcement ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME phiproxy.announcement_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE phiproxy.column_name (
    schema text NOT NULL,
    "table" text NOT NULL,
    "column" text NOT NULL,
    number integer NOT NULL
);
CREATE TABLE phiproxy.data_key (
    id bigint NOT NULL,
    root_id integer NOT NULL,
    generation integer NOT NULL,
    wrapped bytea NOT NULL,
    state text NOT NULL,
    used bigint DEFAULT 0 NOT NULL,
    max_uses bigint NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    mac bytea NOT NULL,
    CONSTRAINT data_key_check CHECK (((octet_length(wrapped) = 40) OR (state = 'destroyed'::text))),
    CONSTRAINT data_key_check1 CHECK (((used >= 0) AND (used <= max_uses))),
    CONSTRAINT data_key_generation_check CHECK ((generation > 0)),
    CONSTRAINT data_key_id_check CHECK (((id >= 1) AND (id <= '4294967295'::bigint))),
    CONSTRAINT data_key_mac_check CHECK ((octet_length(mac) = 32)),
    CONSTRAINT data_key_max_uses_check CHECK ((max_uses > 0)),
    CONSTRAINT data_key_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'active'::text, 'decrypt_only'::text, 'compromised'::text, 'retired'::text, 'destroyed'::text])))
);
CREATE TABLE phiproxy.event (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    database_user text DEFAULT SESSION_USER NOT NULL,
    os_user text NOT NULL,
    what text NOT NULL,
    subject text NOT NULL,
    "from" text,
    "to" text
);
ALTER TABLE phiproxy.event ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME phiproxy.event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE phiproxy.identity (
    number integer NOT NULL,
    identity text NOT NULL,
    scope text NOT NULL,
    type text NOT NULL,
    CONSTRAINT identity_identity_check CHECK ((identity ~ '^[cd]:.'::text)),
    CONSTRAINT identity_number_check CHECK (((number >= 1) AND (number <= 65535))),
    CONSTRAINT identity_scope_check CHECK ((scope ~ '^[dt]:.'::text)),
    CONSTRAINT identity_type_check CHECK ((type <> ''::text))
);
CREATE TABLE phiproxy.meta (
    one boolean DEFAULT true NOT NULL,
    format integer NOT NULL,
    deployment text NOT NULL,
    epoch bigint DEFAULT 1 NOT NULL,
    "collation" text,
    CONSTRAINT meta_deployment_check CHECK ((deployment <> ''::text)),
    CONSTRAINT meta_epoch_check CHECK ((epoch > 0)),
    CONSTRAINT meta_format_check CHECK ((format > 0)),
    CONSTRAINT meta_one_check CHECK (one)
);
CREATE TABLE phiproxy.proxy (
    id bigint NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    epoch bigint NOT NULL,
    heard bigint NOT NULL
);
CREATE TABLE phiproxy.root_key (
    id integer NOT NULL,
    scope text NOT NULL,
    tenant text NOT NULL,
    purpose text NOT NULL,
    generation integer NOT NULL,
    state text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT root_key_generation_check CHECK ((generation > 0)),
    CONSTRAINT root_key_purpose_check CHECK ((purpose = ANY (ARRAY['data'::text, 'index'::text, 'audit'::text]))),
    CONSTRAINT root_key_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'active'::text, 'decrypt_only'::text, 'compromised'::text, 'retired'::text, 'destroyed'::text])))
);
ALTER TABLE phiproxy.root_key ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME phiproxy.root_key_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE phiproxy.root_wrap (
    root_id integer NOT NULL,
    kek_uri text NOT NULL,
    kek_version text NOT NULL,
    blob bytea NOT NULL,
    verified_at timestamp with time zone NOT NULL
);
CREATE TABLE phiproxy.slot (
    number integer NOT NULL,
    slot integer NOT NULL,
    expression text NOT NULL,
    normaliser integer NOT NULL,
    family text,
    generation integer NOT NULL,
    state text NOT NULL,
    CONSTRAINT slot_expression_check CHECK ((expression <> ''::text)),
    CONSTRAINT slot_generation_check CHECK (((generation >= 1) AND (generation <= 255))),
    CONSTRAINT slot_normaliser_check CHECK (((normaliser >= 1) AND (normaliser <= 255))),
    CONSTRAINT slot_slot_check CHECK (((slot >= 0) AND (slot <= 254))),
    CONSTRAINT slot_state_check CHECK ((state = ANY (ARRAY['building'::text, 'ready'::text, 'active'::text, 'dropped'::text])))
);
INSERT INTO phiproxy.column_name VALUES ('public', 'patients', 'mrn', 1);
INSERT INTO phiproxy.column_name VALUES ('public', 'visits', 'mrn', 1);
INSERT INTO phiproxy.column_name VALUES ('public', 'patients', 'ssn', 2);
INSERT INTO phiproxy.data_key VALUES (2510906851, 3, 1, '\x9959de09b4ef9d4178b49e35f7c545cd16bc1b2495d11c94ae0c9d94ffde8eb9ebff95e30a18f08e', 'active', 0, 1000, '2026-11-27 12:52:12.901945+00', '\x892fd50596729882eae555bfb8029e960c4168a9adccfbe3b49d8b5557db7abd');
INSERT INTO phiproxy.data_key VALUES (465707572, 6, 1, '\x2d17785cc111585e4f9a61181a13fe4f9cc9ac85c2d56aac67fe534f20051df38bb8f3e87674ab0c', 'active', 10000, 1000000, '2026-11-27 12:52:13.593219+00', '\x8c1d9104d48d741e0b713016f78fd5da8e7fdf103004d9df2b523f9943e31662');
INSERT INTO phiproxy.data_key VALUES (2563651211, 1, 1, '\xef40be4a8e51a6295709f9ed5c4399f19a104a1f507fa09b27ca09aa9c5b8b6218cc6b7347fe7ab0', 'decrypt_only', 1000, 1000, '2026-11-27 12:52:12.875171+00', '\xdbef8ae1fb5f0278a20f403bd13471ac612bf5a0942eb64f68b10e71f911f48d');
INSERT INTO phiproxy.data_key VALUES (1505422193, 1, 2, '\xa4d5549a05a4ab8484a3f3588101445db5b32fcd9d4a8724aaebadd4c9ea7c3bab27f5144a85a42a', 'decrypt_only', 1000, 1000, '2026-11-27 12:52:13.694438+00', '\x795940eb5ae4562a4cf30a870c5836449c82822112f46380bc403a89bec5b2d3');
INSERT INTO phiproxy.data_key VALUES (3504833745, 9, 1, '\xffeb85570f9a6d9e32a31522b476c94fe86f8aecc3b3803a2f4bc64f72c864c09666e8ba0cbb829e', 'compromised', 1000, 1000, '2026-11-27 12:52:13.799934+00', '\x4f8594fe7f8c451e195b1cd62a98ba0c8abbfee2cbb322eecded31db6475f5fa');
INSERT INTO phiproxy.data_key VALUES (2159936694, 9, 2, '\x10c8b8d455789f6be24192fe106cbb19bf6f6f1ef9fb9a7fac59e198120b3f740f5940a5a1934fb8', 'active', 0, 1000, '2026-11-27 12:52:13.835288+00', '\xd147e6fcb1f82dc8e8f7dfdda233d8226ca192670d4fb0168b401490efeba5df');
INSERT INTO phiproxy.data_key VALUES (2189005009, 7, 1, '\x', 'destroyed', 10000, 1000000, '2026-11-27 12:52:13.651735+00', '\xf84df6d294b81d530d018c1e986207e8b24c55d4cd07e60347dd8116d2d51761');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-27 12:52:12.802013+00', 'postgres', 'root', 'registry made', 'phiproxy', NULL, 'clinic-test');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (2, '2026-11-27 12:52:12.835589+00', 'postgres', 'root', 'identity registered', 'd:mrn', NULL, '1');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (3, '2026-11-27 12:52:12.840104+00', 'postgres', 'root', 'column named', 'd:mrn', NULL, 'public.patients.mrn');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (4, '2026-11-27 12:52:12.844281+00', 'postgres', 'root', 'column named', 'd:mrn', NULL, 'public.visits.mrn');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (5, '2026-11-27 12:52:12.848003+00', 'postgres', 'root', 'identity registered', 'c:public.patients.ssn', NULL, '2');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (6, '2026-11-27 12:52:12.850392+00', 'postgres', 'root', 'column named', 'c:public.patients.ssn', NULL, 'public.patients.ssn');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (7, '2026-11-27 12:52:12.871355+00', 'postgres', 'root', 'root key made', 'data root 1 of d:mrn, generation 1', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (8, '2026-11-27 12:52:12.878932+00', 'postgres', 'root', 'data key made', 'data key 2563651211 of root 1, generation 1', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (9, '2026-11-27 12:52:12.889192+00', 'postgres', 'root', 'root key made', 'index root 2 of d:mrn, generation 1', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (10, '2026-11-27 12:52:12.901092+00', 'postgres', 'root', 'root key made', 'data root 3 of t:public.patients, generation 1', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (11, '2026-11-27 12:52:12.905708+00', 'postgres', 'root', 'data key made', 'data key 2510906851 of root 3, generation 1', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (12, '2026-11-27 12:52:12.91093+00', 'postgres', 'root', 'root key made', 'index root 4 of t:public.patients, generation 1', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (13, '2026-11-27 12:52:13.422625+00', 'postgres', 'root', 'collation compared', 'UTF8 c C.UTF-8 C.UTF-8 PostgreSQL 15.20 (Debian 15.20-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 14.2.0-19) 14.2.0, 64-bit', NULL, 'family simple, table 1');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (14, '2026-11-27 12:52:13.449782+00', 'postgres', 'root', 'slot made', '@ of d:mrn in slot 0', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (15, '2026-11-27 12:52:13.464696+00', 'postgres', 'root', 'slot made', '@ of c:public.patients.ssn in slot 0', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (16, '2026-11-27 12:52:13.465549+00', 'postgres', 'root', 'slot made', 'right(@,4) of c:public.patients.ssn in slot 1', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (17, '2026-11-27 12:52:13.571196+00', 'postgres', 'root', 'root key made', 'index root 5 of d:mrn, generation 1', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (18, '2026-11-27 12:52:13.572236+00', 'postgres', 'root', 'root key made', 'data root 6 of d:mrn, generation 1', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (19, '2026-11-27 12:52:13.593853+00', 'postgres', 'root', 'data key made', 'data key 465707572 of root 6, generation 1', NULL, 'pending');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (20, '2026-11-27 12:52:13.598824+00', 'postgres', 'root', 'data key active', 'data key 1bc22234 of root 6, generation 1', 'pending', 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (21, '2026-11-27 12:52:13.626447+00', 'postgres', 'root', 'root key made', 'data root 7 of d:mrn, generation 1', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (22, '2026-11-27 12:52:13.626977+00', 'postgres', 'root', 'root key made', 'index root 8 of d:mrn, generation 1', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (23, '2026-11-27 12:52:13.653548+00', 'postgres', 'root', 'data key made', 'data key 2189005009 of root 7, generation 1', NULL, 'pending');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (24, '2026-11-27 12:52:13.655811+00', 'postgres', 'root', 'data key active', 'data key 827990d1 of root 7, generation 1', 'pending', 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (25, '2026-11-27 12:52:13.697215+00', 'postgres', 'root', 'data key made', 'data key 1505422193 of root 1, generation 2', NULL, 'pending');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (26, '2026-11-27 12:52:13.707366+00', 'postgres', 'root', 'data key decrypt_only', 'data key 98ce368b of root 1, generation 1', 'active', 'decrypt_only');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (27, '2026-11-27 12:52:13.71586+00', 'postgres', 'root', 'data key active', 'data key 59baeb71 of root 1, generation 2', 'pending', 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (28, '2026-11-27 12:52:13.781386+00', 'postgres', 'root', 'root key made', 'data root 9 of d:mrn, generation 2', NULL, 'pending');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (29, '2026-11-27 12:52:13.787541+00', 'postgres', 'root', 'root key decrypt_only', 'data root 1 of d:mrn, generation 1', 'active', 'decrypt_only');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (30, '2026-11-27 12:52:13.795749+00', 'postgres', 'root', 'data key decrypt_only', 'data key 59baeb71 of root 1, generation 2', 'active', 'decrypt_only');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (31, '2026-11-27 12:52:13.796741+00', 'postgres', 'root', 'root key active', 'data root 9 of d:mrn, generation 2', 'pending', 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (32, '2026-11-27 12:52:13.80042+00', 'postgres', 'root', 'data key made', 'data key 3504833745 of root 9, generation 1', NULL, 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (33, '2026-11-27 12:52:13.831297+00', 'postgres', 'root', 'data key compromised', 'data key d0e784d1 of root 9, generation 1: a fixture', 'active', 'compromised');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (34, '2026-11-27 12:52:13.839136+00', 'postgres', 'root', 'data key made', 'data key 2159936694 of root 9, generation 2', NULL, 'pending');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (35, '2026-11-27 12:52:13.842367+00', 'postgres', 'root', 'data key active', 'data key 80be04b6 of root 9, generation 2', 'pending', 'active');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (36, '2026-11-27 12:52:13.860696+00', 'postgres', 'root', 'root key made', 'index root 10 of t:public.patients, generation 2', NULL, 'pending');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (37, '2026-11-27 12:52:13.871567+00', 'postgres', 'root', 'slot made', '@ of c:public.patients.ssn in slot 2, generation 2', NULL, 'building');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (38, '2026-11-27 12:52:13.891166+00', 'postgres', 'root', 'root key wrapped', 'data root 1 of d:mrn, generation 1', NULL, 'local:/etc/phiproxy/kek.json version 2');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (39, '2026-11-27 12:52:13.894705+00', 'postgres', 'root', 'root key wrap dropped', 'data root 1 of d:mrn, generation 1', 'local:/etc/phiproxy/kek.json version 1', NULL);
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (40, '2026-11-27 12:52:13.904132+00', 'postgres', 'root', 'root key wrapped', 'index root 2 of d:mrn, generation 1', NULL, 'local:/etc/phiproxy/kek.json version 2');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (41, '2026-11-27 12:52:13.905447+00', 'postgres', 'root', 'root key wrap dropped', 'index root 2 of d:mrn, generation 1', 'local:/etc/phiproxy/kek.json version 1', NULL);
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (42, '2026-11-27 12:52:13.917621+00', 'postgres', 'root', 'root key wrapped', 'data root 3 of t:public.patients, generation 1', NULL, 'local:/etc/phiproxy/kek.json version 2');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (43, '2026-11-27 12:52:13.922223+00', 'postgres', 'root', 'root key wrap dropped', 'data root 3 of t:public.patients, generation 1', 'local:/etc/phiproxy/kek.json version 1', NULL);
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (44, '2026-11-27 12:52:13.92861+00', 'postgres', 'root', 'root key wrapped', 'index root 4 of t:public.patients, generation 1', NULL, 'local:/etc/phiproxy/kek.json version 2');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (45, '2026-11-27 12:52:13.929545+00', 'postgres', 'root', 'root key wrap dropped', 'index root 4 of t:public.patients, generation 1', 'local:/etc/phiproxy/kek.json version 1', NULL);
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (46, '2026-11-27 12:52:13.938581+00', 'postgres', 'root', 'root key wrapped', 'index root 5 of d:mrn, tenant acme, generation 1', NULL, 'local:/etc/phiproxy/kek.json version 2');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (47, '2026-11-27 12:52:13.944782+00', 'postgres', 'root', 'root key wrap dropped', 'index root 5 of d:mrn, tenant acme, generation 1', 'local:/etc/phiproxy/kek.json version 1', NULL);
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (48, '2026-11-27 12:52:13.949051+00', 'postgres', 'root', 'root key wrapped', 'data root 6 of d:mrn, tenant acme, generation 1', NULL, 'local:/etc/phiproxy/kek.json version 2');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (49, '2026-11-27 12:52:13.964571+00', 'postgres', 'root', 'root key wrap dropped', 'data root 6 of d:mrn, tenant acme, generation 1', 'local:/etc/phiproxy/kek.json version 1', NULL);
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (50, '2026-11-27 12:52:13.967389+00', 'postgres', 'root', 'root key wrapped', 'data root 7 of d:mrn, tenant beta, generation 1', NULL, 'local:/etc/phiproxy/kek.json version 2');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (51, '2026-11-27 12:52:13.976127+00', 'postgres', 'root', 'root key wrap dropped', 'data root 7 of d:mrn, tenant beta, generation 1', 'local:/etc/phiproxy/kek.json version 1', NULL);
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (52, '2026-11-27 12:52:13.9824+00', 'postgres', 'root', 'root key wrapped', 'index root 8 of d:mrn, tenant beta, generation 1', NULL, 'local:/etc/phiproxy/kek.json version 2');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (53, '2026-11-27 12:52:13.989769+00', 'postgres', 'root', 'root key wrap dropped', 'index root 8 of d:mrn, tenant beta, generation 1', 'local:/etc/phiproxy/kek.json version 1', NULL);
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (54, '2026-11-27 12:52:13.997775+00', 'postgres', 'root', 'root key wrapped', 'data root 9 of d:mrn, generation 2', NULL, 'local:/etc/phiproxy/kek.json version 2');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (55, '2026-11-27 12:52:14.003672+00', 'postgres', 'root', 'root key wrap dropped', 'data root 9 of d:mrn, generation 2', 'local:/etc/phiproxy/kek.json version 1', NULL);
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (56, '2026-11-27 12:52:14.00861+00', 'postgres', 'root', 'root key wrapped', 'index root 10 of t:public.patients, generation 2', NULL, 'local:/etc/phiproxy/kek.json version 2');
INSERT INTO phiproxy.event OVERRIDING SYSTEM VALUE VALUES (57, '2026-11-27 12:52:14.012099+00', 'postgres', 'root', 'root key wrap dropped', 'index root 10 of t:public.patients, generation 2', 'local:/etc/phiproxy/kek.json version 1', NULL);
INSERT INTO phiproxy.identity VALUES (1, 'd:mrn', 'd:mrn', 'varchar(12)');
INSERT INTO phiproxy.identity VALUES (2, 'c:public.patients.ssn', 't:public.patients', 'text');
INSERT INTO phiproxy.meta VALUES (true, 1, 'clinic-test', 10, '{"collation": "UTF8 c C.UTF-8 C.UTF-8 PostgreSQL 15.20 (Debian 15.20-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 14.2.0-19) 14.2.0, 64-bit", "family": "simple", "normaliser": 1, "extent": "assigned", "differing": []}');
INSERT INTO phiproxy.root_key OVERRIDING SYSTEM VALUE VALUES (2, 'd:mrn', '', 'index', 1, 'active', '2026-11-27 12:52:12.88639+00');
INSERT INTO phiproxy.root_key OVERRIDING SYSTEM VALUE VALUES (3, 't:public.patients', '', 'data', 1, 'active', '2026-11-27 12:52:12.900184+00');
INSERT INTO phiproxy.root_key OVERRIDING SYSTEM VALUE VALUES (4, 't:public.patients', '', 'index', 1, 'active', '2026-11-27 12:52:12.90796+00');
INSERT INTO phiproxy.root_key OVERRIDING SYSTEM VALUE VALUES (5, 'd:mrn', 'acme', 'index', 1, 'active', '2026-11-27 12:52:13.569529+00');
INSERT INTO phiproxy.root_key OVERRIDING SYSTEM VALUE VALUES (6, 'd:mrn', 'acme', 'data', 1, 'active', '2026-11-27 12:52:13.570156+00');
INSERT INTO phiproxy.root_key OVERRIDING SYSTEM VALUE VALUES (1, 'd:mrn', '', 'data', 1, 'decrypt_only', '2026-11-27 12:52:12.870326+00');
INSERT INTO phiproxy.root_key OVERRIDING SYSTEM VALUE VALUES (9, 'd:mrn', '', 'data', 2, 'active', '2026-11-27 12:52:13.779367+00');
INSERT INTO phiproxy.root_key OVERRIDING SYSTEM VALUE VALUES (10, 't:public.patients', '', 'index', 2, 'pending', '2026-11-27 12:52:13.860089+00');
INSERT INTO phiproxy.root_key OVERRIDING SYSTEM VALUE VALUES (7, 'd:mrn', 'beta', 'data', 1, 'destroyed', '2026-11-27 12:52:13.624994+00');
INSERT INTO phiproxy.root_key OVERRIDING SYSTEM VALUE VALUES (8, 'd:mrn', 'beta', 'index', 1, 'destroyed', '2026-11-27 12:52:13.625534+00');
INSERT INTO phiproxy.root_wrap VALUES (1, 'local:/etc/phiproxy/kek.json', '2', '\x8d1b3ccb0def9c5faac1b7cb3306c2cbd28f60c52c2911034c082dc666c97bb27b194a293eedfc80ff43b1633bf17b9540602b55c1d2c8a8612755b6', '2026-11-27 12:52:13.890766+00');
INSERT INTO phiproxy.root_wrap VALUES (2, 'local:/etc/phiproxy/kek.json', '2', '\xc2377d98b726fdd21c7782db133c7a034c02c6cc33ada2a351a0042b3fa37ed581bb53d26b6bc0045d261561295720ce000812beb02da7205e4e23c9', '2026-11-27 12:52:13.897217+00');
INSERT INTO phiproxy.root_wrap VALUES (3, 'local:/etc/phiproxy/kek.json', '2', '\x83c190cd33661a02fe17febdaa6fed48728a13a0a9596457aec8c299dc77d534be07b24e47f16babad61a0be92684a7d6a0dfaff78921183c52ffbd8', '2026-11-27 12:52:13.916823+00');
INSERT INTO phiproxy.root_wrap VALUES (4, 'local:/etc/phiproxy/kek.json', '2', '\xd5aef21848b5a011c412e6aeba7ab982b24df0b9dfafdc7e692e35ec768bb7d58c15e0dde15df541b0b37780ae73136ad448e40c3dc5ccda2fd840ff', '2026-11-27 12:52:13.928349+00');
INSERT INTO phiproxy.root_wrap VALUES (5, 'local:/etc/phiproxy/kek.json', '2', '\x8ee5e47810ec4057017507c2c275a9cb15098f81048c9ab8146fc6a0194e22db8dcad3c91f4785a3c45505b2607034757d1b7210ef2aaf0f959efa00', '2026-11-27 12:52:13.937107+00');
INSERT INTO phiproxy.root_wrap VALUES (6, 'local:/etc/phiproxy/kek.json', '2', '\xaf7670a656b926a0c19b443dfb7091e4ce31403345cbff0516335dc303465f58125de351b91a54fdc125521a41895c603d7c2f9f72ca1594fd4f081f', '2026-11-27 12:52:13.948182+00');
INSERT INTO phiproxy.root_wrap VALUES (9, 'local:/etc/phiproxy/kek.json', '2', '\x1eec8dbe97b8f1bf377b5894c0e41989b8f0f54cbd572d457391be5d4e0371e662fa4b4310240a9fe1a917cb86b388bb9e9706ec78cce2783708017f', '2026-11-27 12:52:13.99646+00');
INSERT INTO phiproxy.root_wrap VALUES (10, 'local:/etc/phiproxy/kek.json', '2', '\x1c20b6511fb642ce92bfd03e50c1a4c2f9e65e2c2418b1f90c94dd015a2cbd3b2a6e1c9c586c541f946c36ac4981086474cfd49f7cb321a0ff81797b', '2026-11-27 12:52:14.00836+00');
INSERT INTO phiproxy.slot VALUES (1, 0, '@', 1, NULL, 1, 'active');
INSERT INTO phiproxy.slot VALUES (2, 0, '@', 1, NULL, 1, 'active');
INSERT INTO phiproxy.slot VALUES (2, 1, 'right(@,4)', 1, NULL, 1, 'active');
INSERT INTO phiproxy.slot VALUES (2, 2, '@', 1, NULL, 2, 'building');
SELECT pg_catalog.setval('phiproxy.announcement_number_seq', 1, false);
SELECT pg_catalog.setval('phiproxy.event_id_seq', 57, true);
SELECT pg_catalog.setval('phiproxy.root_key_id_seq', 10, true);
ALTER TABLE ONLY phiproxy.announcement
    ADD CONSTRAINT announcement_pkey PRIMARY KEY (number);
ALTER TABLE ONLY phiproxy.column_name
    ADD CONSTRAINT column_name_pkey PRIMARY KEY (schema, "table", "column");
ALTER TABLE ONLY phiproxy.data_key
    ADD CONSTRAINT data_key_pkey PRIMARY KEY (id);
ALTER TABLE ONLY phiproxy.data_key
    ADD CONSTRAINT data_key_root_id_generation_key UNIQUE (root_id, generation);
ALTER TABLE ONLY phiproxy.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (id);
ALTER TABLE ONLY phiproxy.identity
    ADD CONSTRAINT identity_identity_key UNIQUE (identity);
ALTER TABLE ONLY phiproxy.identity
    ADD CONSTRAINT identity_pkey PRIMARY KEY (number);
ALTER TABLE ONLY phiproxy.meta
    ADD CONSTRAINT meta_pkey PRIMARY KEY (one);
ALTER TABLE ONLY phiproxy.proxy
    ADD CONSTRAINT proxy_pkey PRIMARY KEY (id);
ALTER TABLE ONLY phiproxy.root_key
    ADD CONSTRAINT root_key_pkey PRIMARY KEY (id);
ALTER TABLE ONLY phiproxy.root_key
    ADD CONSTRAINT root_key_scope_tenant_purpose_generation_key UNIQUE (scope, tenant, purpose, generation);
ALTER TABLE ONLY phiproxy.root_wrap
    ADD CONSTRAINT root_wrap_pkey PRIMARY KEY (root_id, kek_uri, kek_version);
ALTER TABLE ONLY phiproxy.slot
    ADD CONSTRAINT slot_pkey PRIMARY KEY (number, slot);
CREATE UNIQUE INDEX data_key_one_active ON phiproxy.data_key USING btree (root_id) WHERE (state = 'active'::text);
CREATE UNIQUE INDEX root_key_one_active ON phiproxy.root_key USING btree (scope, tenant, purpose) WHERE (state = 'active'::text);
CREATE UNIQUE INDEX slot_one_active ON phiproxy.slot USING btree (number, expression) WHERE (state = 'active'::text);
CREATE UNIQUE INDEX slot_one_per_generation ON phiproxy.slot USING btree (number, expression, generation) WHERE (state <> 'dropped'::text);
ALTER TABLE ONLY phiproxy.column_name
    ADD CONSTRAINT column_name_number_fkey FOREIGN KEY (number) REFERENCES phiproxy.identity(number);
ALTER TABLE ONLY phiproxy.data_key
    ADD CONSTRAINT data_key_root_id_fkey FOREIGN KEY (root_id) REFERENCES phiproxy.root_key(id);
ALTER TABLE ONLY phiproxy.root_wrap
    ADD CONSTRAINT root_wrap_root_id_fkey FOREIGN KEY (root_id) REFERENCES phiproxy.root_key(id);
ALTER TABLE ONLY phiproxy.slot
    ADD CONSTRAINT slot_number_fkey FOREIGN KEY (number) REFERENCES phiproxy.identity(number);
