#!/bin/sh
# Make .venv/ and install phiproxy into it: bootstrap.sh EXTRA [PYTHON]
# Needs Python 3.11+. Where Debian's Python comes without ensurepip, root gets the matching venv package; others are told.
set -eu

extra=$1
python=${2:-}
venv=.venv

fits() {
  command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if [ -z "$python" ]; then
  for candidate in python3 python3.13 python3.12 python3.11 python3.14; do
    if fits "$candidate"; then
      python=$candidate
      break
    fi
  done
fi
if [ -z "$python" ] || ! fits "$python"; then
  echo "phiproxy needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3" >&2
  exit 1
fi

if [ ! -x "$venv/bin/pip" ]; then
  rm -rf "$venv"
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
      apt-get update -qq
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "python$version-venv"
    else
      echo "this Python has no ensurepip: install the package python$version-venv (or python3-venv) and run make again" >&2
      exit 1
    fi
  fi
  "$python" -m venv "$venv"
fi

"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extra]"
test -x "$venv/bin/phiproxy"
touch "$venv/.installed-$extra"
