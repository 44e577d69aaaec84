"""From a caller and a name to a service, or to the error that says why not.

The order matters: what a key does not list is never looked at further; a gateway outside the mask
says so and names a legal one; only then does it matter whether anything serves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from isochrone.gateway.bearer import Caller
from isochrone.gateway.error_bodies import Elsewhere
from isochrone.gateway.flight import no_replica
from isochrone.gateway.holding import is_startable
from isochrone.gateway.routes import RouteBook, RoutedService
from isochrone.schema.errors import Forbidden, IsochroneError, NotFound, Overloaded
from isochrone.schema.place import Whereabouts

NEAREST_MAX: Final = 3


class Lookup:
    """Finds services for callers.

    ``declared(tenant, name)``: whether such a service was declared here, though nothing serves.
    ``legal_url(test)``: the URL of the nearest gateway that passes ``test``, or "".
    """

    def __init__(
        self,
        book: RouteBook,
        declared: Callable[[str, str], bool],
        legal_url: Callable[[Callable[[Whereabouts], bool]], str],
    ) -> None:
        self._book = book
        self._declared = declared
        self._legal_url = legal_url

    def admit(self, caller: Caller) -> None:
        """Before a body is read: may this gateway serve the key at all? Raises Elsewhere.

        A key's residency lies inside its services', so the key alone usually decides; a gateway
        that none of the key's services admits is refused here, too.
        """
        changes = self._book.changes
        if caller.admitted_at == changes:
            return
        if not caller.admits(self._book.places.here):
            raise self._elsewhere(caller, None, "the key")
        known = [self._book.find(caller.tenant, name) for name in caller.services]
        routed = [service for service in known if service is not None]
        if routed and not any(service.here_legal for service in routed):
            raise self._elsewhere(caller, routed[0], "every service of the key")
        caller.admitted_at = changes
        caller.serving = {}

    def find(self, caller: Caller, name: str) -> RoutedService:
        """The service that ``name`` means to ``caller``.

        Raises NotFound (with the nearest names), Forbidden (not listed by the key), Elsewhere
        (not here) or Overloaded (declared, but nothing serves yet).
        """
        service = self._book.find(caller.tenant, name)
        if name not in caller.services:
            if service is not None or self._declared(caller.tenant, name):
                raise Forbidden(
                    f"The API key does not list {name}.",
                    fix="Make a key for it with `isochrone keys create`.",
                )
            raise _unknown(name, caller.services)
        if service is None:
            if self._declared(caller.tenant, name):
                raise Overloaded(
                    f"{name} has no serving replica yet.",
                    fix="Try again in a moment; `isochrone status` shows how far it is.",
                    code="no_replica",
                )
            raise _unknown(name, caller.services - {name})
        if not service.here_legal or not caller.admits(self._book.places.here):
            raise self._elsewhere(caller, service, name)
        return service

    def find_serving(self, caller: Caller, name: str) -> RoutedService:
        """As ``find``, and it has a replica that may be asked, or starts one when it is asked for;
        raises Overloaded otherwise."""
        known = caller.serving.get(name)
        if known is not None and caller.admitted_at == self._book.changes:
            return known
        service = self.find(caller, name)
        if not service.legal and not is_startable(service):
            raise no_replica(service)
        caller.serving[name] = service
        return service

    def _elsewhere(
        self, caller: Caller, service: RoutedService | None, what: str
    ) -> IsochroneError:
        def legal(where: Whereabouts) -> bool:
            return caller.admits(where) and (service is None or service.admits(where))

        places, url = self._book.places, self._legal_url(legal)
        reason = caller.why_not(places.here)
        if not reason and service is not None:
            reason = service.why_not(places.here)
        fix = f"Send it to {url} instead." if url else "No gateway known here may serve it."
        return Elsewhere(
            f"The residency of {what} does not admit this gateway ({places.place.country}):"
            f" {reason}.",
            fix=fix,
            url=url,
        )


def _unknown(name: str, services: frozenset[str]) -> IsochroneError:
    near = nearest(name, services)
    fix = f"Did you mean {', '.join(near)}?" if near else _listed(services)
    return NotFound(f"There is no model {name[:80]!r}.", fix=fix, code="model_not_found")


def _listed(services: frozenset[str]) -> str:
    if not services:
        return "The API key lists no other service."
    shown = sorted(services)[:5]
    return f"The API key lists {', '.join(shown)}."


def nearest(name: str, names: frozenset[str]) -> list[str]:
    """Names that look like ``name``, best first."""
    import difflib  # only when somebody mistyped

    return difflib.get_close_matches(name[:64], sorted(names), n=NEAREST_MAX, cutoff=0.5)
