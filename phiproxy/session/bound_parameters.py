"""What becomes of a Bind: its parameters and formats as the plan of its statement has them."""

from phiproxy.plan.compiled_convert import Formed
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.plan.subjects_of_execution import Noted, are_given, given_values
from phiproxy.session import slow_work
from phiproxy.session.state import State
from phiproxy.session.substitutes_and_questions import ParameterCount, UnsupportedFormat
from phiproxy.wire.encodings import UTF8
from phiproxy.wire.fields import Bind, expand_formats

# Of one statement; a driver has one or two.
MAX_FORMED = 8


def formed_by(plan: StatementPlan, sent: Bind) -> Formed:
    """Return what follows from the formats of a Bind: a client says the same each time, so it is made once."""
    key = (sent.formats, len(sent.values), sent.result_formats)
    formed = plan.formed.get(key)
    if formed is None:
        wanted, results = _result_formats(plan, sent), sent.result_formats
        if wanted is not None and plan.columns is not None:
            reveals = zip(plan.columns.reveals, wanted, strict=True)
            # A code that is none stays: the server complains of it when the first row comes, as it would without the proxy.
            results = tuple(1 if reveal is not None and code in (0, 1) else code for reveal, code in reveals)
        formats = sent.formats if plan.identity else _parameter_formats(plan, sent)
        formed = Formed(formats, wanted, formats if plan.identity else plan.formats(formats), results)
        if len(plan.formed) < MAX_FORMED:
            plan.formed[key] = formed
    return formed


def given_to(session: State, plan: StatementPlan, sent: Bind, formed: Formed, oids: tuple[int, ...]) -> tuple[Noted, ...]:
    """Return whom a client says an execution to be about, where there is an audit log; ``oids`` are those that Parse declared."""
    subjects = plan.touched.subjects
    if session.trail is None or not are_given(subjects):
        return ()
    encoding = session.text.encoding or UTF8
    return given_values(subjects, plan.text, sent.values, formed.parameters, declared_to(plan, oids), encoding)


def declared_to(plan: StatementPlan, oids: tuple[int, ...]) -> tuple[int, ...]:
    """Return the types by which the client spells its parameters; 0 for those of which only the server knows."""
    if not plan.described:
        return oids
    declared = (*oids, *(0 for _ in range(len(plan.described) - len(oids))))
    return tuple(own if told is None else told for own, told in zip(declared, plan.described, strict=False))


def _result_formats(plan: StatementPlan, sent: Bind) -> tuple[int, ...] | None:
    """Return one format code per result column as the client wants them; None where the columns do not matter."""
    if plan.columns is None or not (plan.columns.protected or plan.columns.subjects):
        return None
    count = len(plan.columns.reveals)
    # Another number is refused by the server itself, in its own order of complaints.
    return expand_formats(sent.result_formats, count) if len(sent.result_formats) in (0, 1, count) else None


def converted(session: State, plan: StatementPlan, sent: Bind, formed: Formed) -> Bind:
    """Return the server's Bind; raises what ``slow_work.parameters`` raises."""
    if plan.identity:
        return sent._replace(result_formats=formed.server_results)
    given = slow_work.read_parameters(session, plan, sent.values, formed.parameters)
    styles = session.styles_for(typed=True) if plan.typed else session.styles.current
    values = slow_work.parameters(session, plan, session.planner.ciphers, given, formed.parameters, styles)
    return Bind(sent.portal, sent.statement, formed.server_parameters, values, formed.server_results)


def _parameter_formats(plan: StatementPlan, sent: Bind) -> tuple[int, ...]:
    """Return one format code per parameter; complaints are the server's, in its order (postgres.c, exec_bind_message)."""
    formats = counted_formats(sent, plan.inputs)
    unsupported = plan.unsupported(formats)
    if unsupported is not None:
        raise UnsupportedFormat(f"unsupported format code: {unsupported}")
    return formats


def counted_formats(sent: Bind, inputs: int) -> tuple[int, ...]:
    """Return one format code per parameter of a statement that has ``inputs``; ParameterCount."""
    codes, count = len(sent.formats), len(sent.values)
    if codes > 1 and codes != count:
        raise ParameterCount(f"bind message has {codes} parameter formats but {count} parameters")
    if count != inputs:
        raise ParameterCount(f"bind message supplies {count} parameters, but prepared statement requires {inputs}")
    return expand_formats(sent.formats, count)
