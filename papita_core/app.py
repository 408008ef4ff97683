"""Builds every service of Papita once, over one database."""

from __future__ import annotations

from dataclasses import dataclass

from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from papita_core.audit.service import AuditLog
from papita_core.clock import Clock, utc_now
from papita_core.db import Database
from papita_core.db.migrate import migrate
from papita_core.grants.lending import Lender
from papita_core.grants.service import GrantService
from papita_core.grants.user_tokens import UserTokens
from papita_core.operations.housekeeping import Housekeeper, Housekeeping
from papita_core.projects.service import ProjectService
from papita_core.secret import Secret
from papita_core.settings import Settings, SettingsError
from papita_core.usage.service import UsageService
from papita_core.users.access_tokens import AccessTokenService
from papita_core.users.account import AccountService
from papita_core.users.factors import FactorService
from papita_core.users.limits import LimitService
from papita_core.users.links import LinkService
from papita_core.users.oidc.providers import load_providers
from papita_core.users.oidc.service import OidcService
from papita_core.users.passkeys import PasskeyService
from papita_core.users.policies import PolicyService
from papita_core.users.preferences import PreferenceService
from papita_core.users.recovery import RecoveryService
from papita_core.users.service import UserService
from papita_core.users.sessions import SessionService
from papita_core.users.setup import SetupService
from papita_core.users.sign_in import SignInService
from papita_core.users.sign_up import SignUpService
from papita_core.users.takeout import TakeoutService
from papita_core.users.totp import TotpService
from papita_core.vault.keyring import KeyRing
from papita_core.vault.master_key import client_secret
from papita_core.vault.rotation import KeyRotation
from papita_core.vault.sealed_rows import check_sample
from papita_core.vault.service import CredentialService


@dataclass(frozen=True, slots=True)
class Papita:
    """All services of one process."""

    settings: Settings
    database: Database
    ring: KeyRing
    audit: AuditLog
    users: UserService
    setup: SetupService
    account: AccountService
    takeout: TakeoutService
    limits: LimitService
    links: LinkService
    sign_up: SignUpService
    sign_in: SignInService
    sessions: SessionService
    access_tokens: AccessTokenService
    credentials: CredentialService
    user_tokens: UserTokens
    grants: GrantService
    lender: Lender
    projects: ProjectService
    usage: UsageService
    preferences: PreferenceService
    policies: PolicyService
    factors: FactorService
    totp: TotpService
    recovery: RecoveryService
    passkeys: PasskeyService
    oidc: OidcService
    rotation: KeyRotation
    housekeeping: Housekeeper

    def ready(self) -> tuple[bool, str]:
        """Whether requests can be served, and the reason where not."""
        if not self.database.reachable():
            return False, "database-unreachable"
        if self.ring.sealed:
            self.ring.try_again()
            return False, "vault-sealed"
        return True, "ready"

    def close(self) -> None:
        self.housekeeping.close()
        self.rotation.close()
        self.lender.close()
        self.database.close()


def build(settings: Settings, clock: Clock = utc_now) -> Papita:
    """Migrates the database, opens the vault and builds the services.

    Raises `SettingsError` where a setting cannot be used. A vault whose master key is missing
    stays sealed, which is no error here.
    """
    providers = load_providers(settings.oidc_file)
    database = open_database(settings)
    ring = KeyRing(database, clock)
    ring.unseal(settings)
    audit = AuditLog(database, ring, clock)
    check_sample(database, ring, audit)
    users = UserService(database, audit, clock)
    user_tokens = UserTokens(database, ring, clock)
    sessions = SessionService(database, audit, settings, clock)
    rotation = KeyRotation(database, ring, audit, settings, clock)
    limits = LimitService(database, audit, clock)
    policies = PolicyService(database, audit, clock)
    return Papita(
        settings=settings,
        database=database,
        ring=ring,
        audit=audit,
        users=users,
        setup=SetupService(database, users, audit, clock),
        takeout=TakeoutService(database, audit, clock),
        account=AccountService(database, sessions, limits, audit, clock),
        limits=limits,
        links=LinkService(database, users, audit, settings, clock),
        sign_up=SignUpService(database, users, policies, limits, audit, clock),
        sign_in=SignInService(database, limits, audit),
        sessions=sessions,
        access_tokens=AccessTokenService(database, audit, clock),
        credentials=CredentialService(database, ring, audit, settings, clock),
        user_tokens=user_tokens,
        grants=GrantService(
            database, user_tokens, audit, settings, Secret(client_secret(settings)), clock
        ),
        lender=Lender(database, ring, audit, settings, clock),
        projects=ProjectService(database, user_tokens, audit, clock),
        usage=UsageService(database, clock),
        preferences=PreferenceService(database),
        policies=policies,
        factors=FactorService(database, users, audit, clock),
        totp=TotpService(database, ring, audit, limits, clock),
        recovery=RecoveryService(database, audit, limits, clock),
        passkeys=PasskeyService(database, audit, limits, settings, clock),
        oidc=OidcService(database, settings, providers, users, policies, sessions, audit, clock),
        rotation=rotation,
        housekeeping=Housekeeper(Housekeeping(database, rotation.rotate_signing_if_due, clock)),
    )


def open_database(settings: Settings) -> Database:
    """The database of `settings`, migrated. Raises `SettingsError`."""
    name = "PAPITA_DATABASE_URL" if settings.database_url else "PAPITA_DATA_DIR"
    try:
        database = Database(settings.database)
        migrate(database)
    except (OSError, DBAPIError) as error:
        reason = str(getattr(error, "orig", error)).strip().partition("\n")[0]
        raise SettingsError(f"{name}: the database cannot be opened: {reason}") from None
    except CommandError as error:
        reason = str(error).partition("\n")[0]
        raise SettingsError(f"{name}: the database is of another version: {reason}") from None
    return database
