"""The names of the stages, in order, for whoever needs no more of them: a shell's TAB, a check."""

STAGES = (
    *("profile", "assemble", "sign", "notarize", "staple"),
    *("archive", "smoke", "publish", "register", "promote", "github"),
)
