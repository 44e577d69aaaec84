"""From a standing decision to what each cell is granted: replicas at sites, and standbys.

Pure. A cell that holds the service without a site in the decision is sent a quota of nothing, which
withdraws it. While nobody knows where the standbys of a service without replicas are, no quota is
made: what was granted stands until the next decision, which is due at once.
"""

from __future__ import annotations

from isochrone.controller import home
from isochrone.controller.declared import Declared
from isochrone.rules.standby import by_cell
from isochrone.schema.lease import Quota, Site


def quotas_for(
    declared: Declared,
    standing: home.Standing | None,
    holders: frozenset[str],
    home_cell: str,
    epoch: int,
) -> dict[str, Quota]:
    """The quota of every cell that has a site or holds the service, by cell.

    Without a decision there is none: what an earlier one granted stands until there is a new one.
    """
    if standing is None and not declared.service.deleted:
        return {}
    live = None if declared.service.deleted else standing
    resting = home.standbys(live, declared) if live is not None else ()
    if resting is None:
        return {}
    standby = by_cell(resting)
    sites: dict[str, list[Site]] = {cell: [] for cell in (*holders, *standby)}
    for cell, site in live.sites if live is not None else ():
        sites.setdefault(cell, []).append(site)
    return {
        cell: Quota(
            service=declared.id,
            service_document=declared.document,
            home_cell=home_cell,
            cell=cell,
            sites=tuple(sites[cell]),
            standby=standby.get(cell, ()),
            epoch=epoch,
            revision=(standing.order if standing else 0) + (1 if declared.service.deleted else 0),
            decision=standing.decision if standing else "",
        )
        for cell in sorted(sites)
    }
