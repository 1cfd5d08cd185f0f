#!/bin/sh
# Prints the first Python 3.11 to 3.14 that can make a virtual environment, or says what is missing.
# PYTHON=/path/to/python chooses one.
seen=""
if [ -n "${PYTHON:-}" ]; then
    set -- "$PYTHON"
else
    set -- python3.13 python3.14 python3.12 python3.11 python3 python
fi
for name in "$@"; do
    path=$(command -v "$name" 2>/dev/null) || {
        [ -z "${PYTHON:-}" ] || seen="
  $PYTHON is not there"
        continue
    }
    found=$("$path" -c 'import sys
print("%d.%d" % sys.version_info[:2])
import ensurepip, venv' 2>/dev/null)
    status=$?
    version=$(printf '%s\n' "$found" | head -n 1)
    case "$version" in
        3.11 | 3.12 | 3.13 | 3.14)
            if [ $status -eq 0 ]; then
                "$path" -c 'import sys; print(getattr(sys, "_base_executable", "") or sys.executable)'
                exit 0
            fi
            seen="$seen
  $path is $version but has no venv (Debian: apt install python$version-venv)" ;;
        ?*) seen="$seen
  $path is $version" ;;
    esac
done
echo "release-tool: no fitting Python: 3.11, 3.12, 3.13 or 3.14 with venv is needed$seen" >&2
echo "  install one (python.org, Homebrew, your distribution) or say make PYTHON=/path/to/python" >&2
exit 3
