"""`release-tool verify-profile`: what a provisioning profile allows, and whether Apple said so."""

from __future__ import annotations

import click

from release_tool.cli import profile_answer
from release_tool.cli.session import Session


@click.command("verify-profile")
@click.argument("profile", required=False)
@click.option("--base64-env", metavar="NAME", help="Read the profile from this variable instead.")
@click.option("--team-id", help="The team that signs, such as SLDQ2GJ6TL.")
@click.option("--bundle-id", help="The app that it is for, such as io.darkbloom.provider.")
@click.option("--access-group", multiple=True, help="A keychain access group that it must grant.")
@click.option("--certificate", metavar="FILE", help="The certificate that signs, DER or PEM.")
@click.option(
    "--min-days",
    default=profile_answer.DEFAULT_MINIMUM_DAYS,
    show_default=True,
    type=click.IntRange(0, 100_000),
    help="Days that it must still be valid.",
)
@click.option("--trust", multiple=True, metavar="CA", help="Trust this root instead of Apple's.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    ctx: click.Context,
    profile: str | None,
    base64_env: str | None,
    team_id: str | None,
    bundle_id: str | None,
    access_group: tuple[str, ...],
    certificate: str | None,
    min_days: int,
    trust: tuple[str, ...],
    as_json: bool,  # noqa: FBT001 - click's flag
) -> None:
    """Verify a provisioning profile: a file, or - for standard input.

    Checks who signed it, its kind and its expiry; the team, the app, access groups and the signing
    certificate as asked. Takes DER, PEM or base64 text. Exits 6 when it must not be used.

    \b
    release-tool verify-profile my.provisionprofile --team-id SLDQ2GJ6TL
    release-tool verify-profile --base64-env PROVISIONING_PROFILE_BASE64 --json
    """
    session = ctx.obj if isinstance(ctx.obj, Session) else Session({})
    request = profile_answer.Request(
        profile=profile,
        base64_env=base64_env,
        team_id=team_id,
        bundle_id=bundle_id,
        access_group=access_group,
        certificate=certificate,
        min_days=min_days,
        trust=trust,
        as_json=as_json,
    )
    text, code = profile_answer.answer(request, session.environ)
    print(text, file=session.out)
    ctx.exit(code)
