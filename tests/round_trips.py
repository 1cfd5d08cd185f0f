"""Parse, then encode: the same bytes, for everything that a signature is made of."""

from __future__ import annotations

from release_tool.apple import (
    certificates,
    cms,
    code_directory,
    der,
    der_dictionary,
    entitlements,
    inner_profile,
    launch_constraints,
    macho,
    macho_writer,
    property_list,
    requirement,
    superblob,
)


def code(data: bytes) -> set[str]:
    """A whole Mach-O: universal header, and every slice's signature down to its last attribute.

    Returns:
        What was found and came out as it was, by name.
    """
    slices = macho.parse(data)
    joined = b"".join(macho_writer.join(data, [(one, (one.data,)) for one in slices]))
    # Zeros behind the last slice belong to none.
    assert joined == data[: len(joined)]
    assert not any(data[len(joined) :])
    found = {"Mach-O"}
    for one in slices:
        if one.signature_bytes is not None:
            found |= signature(bytes(one.signature_bytes))
    return found


def signature(room: bytes) -> set[str]:
    """A signature in its room: the container, and each blob by what it is."""
    container = superblob.parse(room)
    assert superblob.encode_as_read(container) == room[: container.length]
    found = {"SuperBlob"}
    for slot, blob in container.blobs:
        found.add(_blob(slot, blob))
    content = superblob.unwrap(
        container.get(superblob.SLOT_CMS) or superblob.wrap(superblob.MAGIC_WRAPPER, b""),
        superblob.MAGIC_WRAPPER,
    )
    if content:
        found |= {"CMS"} | signed_data(content)
    return found


def _blob(slot: int, blob: bytes) -> str:
    if slot == superblob.SLOT_CODE_DIRECTORY or slot in superblob.SLOTS_ALTERNATE:
        assert code_directory.encode(code_directory.parse(blob)) == blob
        return "CodeDirectory"
    if slot == superblob.SLOT_REQUIREMENTS:
        requirements(blob)
        return "requirements"
    if slot == superblob.SLOT_ENTITLEMENTS:
        content = superblob.unwrap(blob, superblob.MAGIC_ENTITLEMENTS)
        entitlements.parse_xml(content)
        assert entitlements.xml_blob(content) == blob
        return "entitlements"
    if slot == superblob.SLOT_ENTITLEMENTS_DER:
        content = superblob.unwrap(blob, superblob.MAGIC_ENTITLEMENTS_DER)
        assert der_dictionary.encode(entitlements.read_der(content)) == content
        return "DER entitlements"
    if slot in superblob.SLOTS_LAUNCH_CONSTRAINTS:
        assert launch_constraints.encode(launch_constraints.parse(blob)) == blob
        return "launch constraint"
    assert slot == superblob.SLOT_CMS, slot
    return "CMS slot"


def requirements(blob: bytes) -> None:
    """A set in binary, each member's text, and the octets from that text again."""
    parsed = requirement.parse_set(blob)
    assert requirement.encode_set(parsed) == blob
    text = requirement.set_to_text(parsed)
    assert requirement.set_to_text(requirement.parse_set_text(text)) == text
    # The text does not say how its chains nest; it is one of the two ways that Apple has.
    assert blob in (
        requirement.encode_set(requirement.parse_set_text(text, nesting="left")),
        requirement.encode_set(requirement.parse_set_text(text, nesting="right")),
    )


def signed_data(data: bytes) -> set[str]:
    """A CMS from its parts and element by element; its certificates, and the token inside."""
    parsed = cms.parse(data)
    assert cms.encode(parsed) == data
    assert der.encode_as_read(der.parse(data)) == data
    found: set[str] = set()
    for certificate in parsed.certificates:
        assert certificates.load(certificate).der == certificate
        assert der.encode_as_read(der.parse(certificate)) == certificate
        found.add("certificate")
    for signer in parsed.signers:
        found |= _attributes(signer)
    return found


def _attributes(signer: cms.Signer) -> set[str]:
    found: set[str] = set()
    for value in signer.attributes.get(cms.APPLE_CDHASHES_PLIST, ()):
        content = der.as_octets(value)
        values = property_list.parse(content)
        # Two writers of 2026: one with the XML declaration, one without.
        written = property_list.write_as_read(values)
        assert content in (written, written.split(b"\n", 1)[1]), content
        found.add("cdhashes")
    for value in signer.unsigned.get(cms.TIMESTAMP_TOKEN, ()):
        signed_data(value.raw)
        found.add("timestamp token")
    return found


def profile(data: bytes) -> set[str]:
    """A profile outside and inside, and the certificates that it lists."""
    found = {"profile"} | signed_data(data)
    values = property_list.parse(cms.parse(data).content or b"")
    listed = values["DeveloperCertificates"]
    assert isinstance(listed, list)
    for certificate in listed:
        assert der.encode_as_read(der.parse(certificate)) == certificate
    inner = values.get(inner_profile.KEY)
    if isinstance(inner, bytes):
        signed_data(inner)
        payload = cms.parse(inner).content or b""
        assert inner_profile.encode(inner_profile.decode(payload)) == payload
        found.add("inner profile")
    return found


def seal(data: bytes) -> None:
    """`CodeResources` as a property list."""
    assert property_list.write_as_read(property_list.parse(data)) == data
