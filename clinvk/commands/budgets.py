"""What a run may use: from its options, its file and the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from clinvk.backends import BackendRegistry
from clinvk.commands.options import given_cost, given_tokens
from clinvk.core.amounts import micro_usd_of, tokens_of
from clinvk.core.errors import UsageError
from clinvk.core.estimates import Estimates
from clinvk.core.spec import RunOptions
from clinvk.local import budgets as local
from clinvk.local import reach

if TYPE_CHECKING:
    from clinvk.commands.options import CommonOptions
    from clinvk.config.settings import Settings
    from clinvk.runs.celery_client import CeleryClient


def of_run(
    settings: Settings,
    options: CommonOptions,
    backends: Iterable[str],
    max_cost_usd: float | None,
    max_tokens_total: int | str | None,
) -> dict[str, Any]:
    """Return the fields of `RunOptions` that are about what the run may use.

    `backends` may run its tasks; the two limits are those of its file.

    Raises:
        UsageError: an amount cannot be read, or nobody would know what a backend uses.
    """
    max_cost, max_tokens = given_cost(options.max_cost), given_tokens(options.max_tokens_total)
    if max_cost is None and max_cost_usd is not None:
        max_cost = micro_usd_of(max_cost_usd)
    if max_tokens is None and max_tokens_total is not None:
        max_tokens = tokens_of(max_tokens_total)
    if max_cost is None and max_tokens is None:
        return {}
    budgets = settings.config.budgets
    if not options.allow_unknown_cost:
        _check_known(settings, backends, "max_cost" if max_cost is not None else "max_tokens_total")
    return {
        "max_micro_usd": max_cost,
        "max_total_tokens": max_tokens,
        "on_budget": budgets.on_budget,
        "allow_unknown_cost": options.allow_unknown_cost,
        "estimate_micro_usd": micro_usd_of(budgets.estimate_usd),
        "estimate_tokens": tokens_of(budgets.estimate_tokens),
    }


def _check_known(settings: Settings, backends: Iterable[str], limit: str) -> None:
    """Refuse backends of which it is known that they never say what they used."""
    registry = BackendRegistry.from_config(settings.worker.backends)
    silent = [name for name in sorted(backends) if not registry.get(name).counts_usage]
    if silent:
        raise UsageError(
            f"{limit}: nobody knows what {', '.join(silent)} uses, since its CLI counts no tokens; "
            f"--allow-unknown-cost counts each execution as budgets.estimate_usd "
            f"(${settings.config.budgets.estimate_usd:.2f})"
        )


def prepare(settings: Settings, client: Any, run: str, options: RunOptions) -> None:
    """Tell the private server of a run what only the records of this machine's other runs say.

    That is what was used today, where the configuration limits a day, and what such tasks used. A
    new run has no name yet.
    """
    limits = settings.config.budgets.limits()
    if limits or options.has_budget:
        records = reach.records_of(settings)
        with client.reaching_broker():
            local.tell(client.store, records, run, limits, has_own=options.has_budget)


def prepare_retry(settings: Settings, client: CeleryClient, run: str, options: RunOptions) -> None:
    """Do the same for a run that goes on; a fleet has a server of its own for all runs."""
    if client.is_private:
        prepare(settings, client, run, options)


def estimates(settings: Settings, broker_url: str | None) -> Estimates:
    """Return what tasks are likely to use, by what others have: of the fleet, or of this machine.

    Raises:
        BrokerError: the broker cannot be reached.
    """
    if broker_url is None:
        return Estimates(ledger for _, ledger in local.ledgers(reach.records_of(settings)))
    from clinvk.commands import fleet

    with fleet.fleet(settings, broker_url) as client:
        return Estimates(client.store.histograms())
