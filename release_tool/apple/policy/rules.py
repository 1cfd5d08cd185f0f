"""Every rule of the gates as data: what it says, where that comes from, and what proves it.

`release-tool doctor --rules` prints them. The name of a check leads back to its rule; a check of
a gate that no rule names does not exist (a test holds both directions).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Gate = Literal[
    "AMFI", "library validation", "entitlements file", "notary", "distribution", "expiry"
]


class Rule(NamedTuple):
    """One rule of one gate."""

    id: str
    gate: Gate
    says: str
    source: str
    """Apple's page or technote, what was measured on real items, or the incident that taught it."""
    proof: str
    """What shows that our check agrees: real data, a look-alike, or a Mac still to come."""
    checks: tuple[str, ...]
    """Names of the checks that apply it."""

    def as_json(self) -> dict[str, object]:
        return {
            "id": self.id,
            "gate": self.gate,
            "says": self.says,
            "source": self.source,
            "proof": self.proof,
            "checks": list(self.checks),
        }


_TN3125 = "TN3125, Inside Code Signing: Provisioning Profiles"
_HARDENED = "Apple: Hardened Runtime"
_NOTARY = "Apple: Resolving common notarization issues"
_ENTITLEMENTS = "Apple: Entitlements; Signing a daemon with a restricted entitlement"
_REAL_APP = "the stapled real app passes"
_REAL_PROFILES = "three real Developer ID profiles: what they grant passes, what they do not fails"
_LOOK_ALIKE = "look-alike app, whole and tampered with"
_GENERATED = "generated files, good and bad"
_MAC = "a Mac still has to show the kill itself"

RULES: tuple[Rule, ...] = (
    # AMFI
    Rule(
        id="amfi.profile",
        gate="AMFI",
        says="Code that claims a restricted entitlement needs an embedded provisioning profile.",
        source=f"{_TN3125}; 2026-04 application-identifier without a profile",
        proof=f"{_LOOK_ALIKE}; {_MAC}",
        checks=("embedded profile",),
    ),
    Rule(
        id="amfi.granted",
        gate="AMFI",
        says="Each value of each restricted entitlement is granted; `*` is a wildcard at the end.",
        source=f"{_TN3125}; 2026-06 push entitlement that the profile did not grant: Killed: 9",
        proof=f"{_REAL_PROFILES}; {_MAC}",
        checks=("entitlement granted",),
    ),
    Rule(
        id="amfi.certificate",
        gate="AMFI",
        says="The signing certificate is one of the profile's.",
        source=f"{_TN3125}; profiles made before a certificate was renewed",
        proof=f"real profile with its own and with another certificate; {_MAC}",
        checks=("certificate in the profile",),
    ),
    Rule(
        id="amfi.team",
        gate="AMFI",
        says="The profile's team is the team of the signature.",
        source=_TN3125,
        proof=_LOOK_ALIKE,
        checks=("team of the profile",),
    ),
    Rule(
        id="amfi.identity",
        gate="AMFI",
        says="Beside a restricted entitlement stand the application and the team identifier.",
        source=f"{_TN3125}; twelve real Developer ID profiles carry both; apps were killed without",
        proof=f"{_LOOK_ALIKE}; {_MAC}",
        checks=("identity entitlement",),
    ),
    Rule(
        id="amfi.bare",
        gate="AMFI",
        says="Only a bundle's main executable claims restricted ones, from its own profile.",
        source=f"{_ENTITLEMENTS}; 2026-06 enclave signed with the provider's entitlements",
        proof=f"{_LOOK_ALIKE} and with a nested app; {_MAC}",
        checks=("restricted entitlements",),
    ),
    Rule(
        id="amfi.get-task-allow",
        gate="AMFI",
        says="`get-task-allow`, in either spelling, is absent or false.",
        source=f"{_NOTARY}; Apple: com.apple.security.get-task-allow",
        proof="real 2020 profile with the short spelling; look-alike app",
        checks=("get-task-allow",),
    ),
    Rule(
        id="amfi.keychain-group",
        gate="AMFI",
        says="A keychain access group begins with the team, whatever a profile grants.",
        source="Apple: Sharing access to keychain items; 2026-04 error -34018",
        proof=f"{_LOOK_ALIKE}; real profiles grant TEAM.*",
        checks=("keychain access group",),
    ),
    # Library validation
    Rule(
        id="lv.location",
        gate="library validation",
        says="Each linked library is the system's or lies in the bundle, where dyld looks for it.",
        source="dyld(1); Apple: Embedding nonstandard code structures in a bundle",
        proof=f"{_REAL_APP}; {_GENERATED}; {_MAC}",
        checks=("linked library",),
    ),
    Rule(
        id="lv.team",
        gate="library validation",
        says="A library is of the loader's team, which both have, unless an entitlement lifts it.",
        source=f"{_HARDENED}; 2026-04-18 library of another team killed at load; ad-hoc apps with"
        " the hardened runtime that ended at their own ad-hoc library",
        proof=f"signed libraries of two teams, of one and of none; {_MAC}",
        checks=("team of the linked library",),
    ),
    Rule(
        id="lv.search-path",
        gate="library validation",
        says="Search paths stay in bundle or system: no /opt, /usr/local, /Users, build tree.",
        source="dyld(1) on restricted processes; the compiler's own folder is left by SwiftPM",
        proof=_GENERATED,
        checks=("search path",),
    ),
    # Entitlements files
    Rule(
        id="file.readable",
        gate="entitlements file",
        says="An XML property list that names no key twice; no comment, BOM or CR (warnings).",
        source=f"{_ENTITLEMENTS}; kernel and libraries differ in which of two keys wins",
        proof=f"{_GENERATED}; hypothesis",
        checks=("entitlements file",),
    ),
    Rule(
        id="file.placeholder",
        gate="entitlements file",
        says="No `$(…)` is left: Xcode fills it in, codesign does not.",
        source="2026-04-18 literal $(AppIdentifierPrefix): error -34018",
        proof=_GENERATED,
        checks=("placeholder",),
    ),
    Rule(
        id="file.keychain-key",
        gate="entitlements file",
        says="`keychain-access-groups` has no `com.apple.security.` in front.",
        source="Apple: Keychain Access Groups Entitlement; the April pipeline had the long one",
        proof="real profiles grant the short key alone",
        checks=("keychain access groups key",),
    ),
    Rule(
        id="file.type",
        gate="entitlements file",
        says="A known key has a value of the type that Apple documents.",
        source="Apple: Entitlements, type of each key",
        proof=f"entitlements of the real app and profiles pass; {_GENERATED}",
        checks=("entitlement type",),
    ),
    Rule(
        id="file.jit",
        gate="entitlements file",
        says="Code that release.yaml calls `jit` has allow-jit or a stronger exception.",
        source="Apple: Porting just-in-time compilers to Apple silicon; Apple's engineers on which"
        " exception includes which; embedded V8 helpers that ended with SIGTRAP at start",
        proof=f"{_GENERATED}; {_MAC}",
        checks=("JIT entitlement",),
    ),
    # The notary
    Rule(
        id="notary.valid",
        gate="notary",
        says="The signature holds as codesign --verify --deep --strict asks.",
        source=f"{_NOTARY}: Ensure a valid code signature",
        proof=f"{_REAL_APP}; tampered copies fail",
        checks=("valid signature",),
    ),
    Rule(
        id="notary.signed",
        gate="notary",
        says="Every Mach-O is signed, also one outside of code places that is sealed as data.",
        source=f"{_NOTARY}: Ensure a valid code signature; 2026-04-07 unsigned Python runtime",
        proof=f"{_REAL_APP}; look-alike app with code in Resources; the service's word is to come",
        checks=("signed for the notary",),
    ),
    Rule(
        id="notary.developer-id",
        gate="notary",
        says="The certificate is a Developer ID Application one, its chain ends in Apple's root.",
        source=f"{_NOTARY}: Use a valid Developer ID certificate; leaf marker 6.1.13 [measured]",
        proof=f"{_REAL_APP}; linker-signed code and App Store certificates fail",
        checks=("Developer ID",),
    ),
    Rule(
        id="notary.timestamp",
        gate="notary",
        says="The signature carries a secure timestamp.",
        source=f"{_NOTARY}: Include a secure timestamp",
        proof=f"{_REAL_APP}; look-alike app signed without",
        checks=("secure timestamp",),
    ),
    Rule(
        id="notary.runtime",
        gate="notary",
        says="Every executable has the hardened runtime.",
        source=f"{_NOTARY}: Enable hardened runtime",
        proof=f"{_REAL_APP}; linker-signed executable fails",
        checks=("hardened runtime",),
    ),
    Rule(
        id="notary.sdk",
        gate="notary",
        says="Every Mach-O names an SDK of 10.9 or later.",
        source=f"{_NOTARY}: Use the macOS 10.9 SDK or later",
        proof=f"{_REAL_APP}; {_GENERATED}",
        checks=("SDK",),
    ),
    Rule(
        id="notary.get-task-allow",
        gate="notary",
        says="No code has `get-task-allow` set.",
        source=f"{_NOTARY}: Avoid the get-task-allow entitlement",
        proof=f"{_REAL_APP}; look-alike app signed with it",
        checks=("debugging for the notary",),
    ),
    # Gatekeeper, unpackers and old systems
    Rule(
        id="files.apple-double",
        gate="distribution",
        says="No `._*` file and no `__MACOSX` folder.",
        source="TN2206; archives opened without ditto: files stood there that no seal knew",
        proof=_GENERATED,
        checks=("AppleDouble file",),
    ),
    Rule(
        id="files.name-form",
        gate="distribution",
        says="Names are composed (NFC).",
        source="archivers that composed NFD names on the way: the seal no longer fit",
        proof=f"{_GENERATED}; hypothesis",
        checks=("name form",),
    ),
    Rule(
        id="files.collision",
        gate="distribution",
        says="No two names are the same after NFC and case folding.",
        source="APFS ignores case and form by default; the project's installer refuses them",
        proof=f"{_GENERATED}; hypothesis",
        checks=("name collision",),
    ),
    Rule(
        id="files.link",
        gate="distribution",
        says="Links are relative and lead to something in the app.",
        source="TN2206 (links in bundles); bundlers that made them absolute or copied their target",
        proof=f"{_REAL_APP}; {_GENERATED}",
        checks=("link",),
    ),
    Rule(
        id="files.mode",
        gate="distribution",
        says="Executables may be run by all; nothing is set-id or writable for everyone.",
        source="the release contract (helpers exactly 0755); no signature covers a mode",
        proof=_GENERATED,
        checks=("mode of a file",),
    ),
    Rule(
        id="files.attributes",
        gate="distribution",
        says="What will be signed carries no extended attribute (FinderInfo, resource fork).",
        source="TN2206: detritus; file providers such as iCloud add FinderInfo",
        proof="attributes set on a real file system",
        checks=("attributes before signing",),
    ),
    Rule(
        id="files.minimum",
        gate="distribution",
        says="No code asks for a newer macOS than LSMinimumSystemVersion and release.yaml promise.",
        source="Apple: LSMinimumSystemVersion; 2026-08 installer promised 14, code wanted 26.2",
        proof=f"{_REAL_APP}; generated load commands",
        checks=("minimum macOS of the code",),
    ),
    Rule(
        id="files.metal-target",
        gate="distribution",
        says="No Metal library is compiled for a newer macOS than is promised.",
        source="2026-08 metallib for 26.2 refused by older systems; header layout measured",
        proof="real library of mlx-metal 0.31.1 says 14.0; generated headers",
        checks=("Metal target",),
    ),
    Rule(
        id="files.code-place",
        gate="distribution",
        says="Where macOS expects code lies nothing else, but what release.yaml seals as data.",
        source="TN2206 (place code and data apart); 2026-04-16 a script in Contents/MacOS",
        proof="Apple's published validator takes a digest there; a Mac and the notary are to come",
        checks=("code place",),
    ),
    # What ends
    Rule(
        id="expiry.signer",
        gate="expiry",
        says="The signing certificate and its issuer outlast the next release.",
        source="not-after of the certificates; Developer ID CA (G1) ends 2027-02-01",
        proof="Apple's real certificates",
        checks=("expiry of the signing certificate", "expiry of the intermediate"),
    ),
    Rule(
        id="expiry.profile",
        gate="expiry",
        says="The profile and a certificate in it outlast the next release.",
        source=f"{_TN3125}; ExpirationDate",
        proof="real profiles of 2017 to 2026",
        checks=("expiry of the profile", "expiry of the certificate in the profile"),
    ),
    Rule(
        id="expiry.timestamp",
        gate="expiry",
        says="A timestamp authority that this tool can check outlasts the next release.",
        source="not-after: Apple Timestamp Certification Authority ends 2027-04-05",
        proof="Apple's real certificate",
        checks=("expiry of the timestamp CA",),
    ),
)

BY_ID = {rule.id: rule for rule in RULES}
BY_CHECK = {name: rule for rule in RULES for name in rule.checks}
