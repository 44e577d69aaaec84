"""The deployed contracts together: token, bonds, vault and council over one chain."""

from __future__ import annotations

from isochrone.ledger.bonds import Bonds
from isochrone.ledger.chain import Chain
from isochrone.ledger.council import Council
from isochrone.ledger.token import Token
from isochrone.ledger.vault import Vault
from isochrone.schema.deployment import Deployment


class Contracts:
    """What a deployment consists of. Makes no call by itself."""

    def __init__(self, chain: Chain, deployment: Deployment) -> None:
        self.chain = chain
        self.deployment = deployment
        self.token = Token(chain, deployment.token)
        self.bonds = Bonds(chain, deployment, self.token)
        self.vault = Vault(chain, deployment, self.token)
        self.council = Council(chain, deployment, self.token)
