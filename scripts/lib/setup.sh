# shellcheck shell=bash
# Set-up shared by the scripts: sourced, never run. Whatever is there already is left alone, so it is cheap to call.
#
#   set_up run|dev   system packages, a virtual environment, appcat; with "dev" also what checks and tests need
#
# Afterwards $bin holds the installed programs. A checkout that belongs to someone else, or cannot be written, stays
# untouched: its environment lives in the caller's cache, with a copy of appcat instead of a link to the checkout.

script=${0##*/}
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
home=~
cache=${XDG_CACHE_HOME:-$home/.cache}
if [[ -O $checkout && -w $checkout ]]; then
    own=yes
    venv=$checkout/.venv
else
    own=
    venv=$cache/appcat/venv-$(printf %s "$checkout" | cksum | cut -d' ' -f1)
fi
bin=$venv/bin
# Nothing of pip's is for this script's reader but errors, and a user's "install for me only" makes no sense in here.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0

say() { printf '%s: %s\n' "$script" "$*" >&2; }
die() {
    say "$@"
    exit 1
}
has() { command -v "$1" >/dev/null; }

quietly() { # COMMAND...: what it prints is shown only when it fails
    local log status=0
    log=$(mktemp)
    "$@" </dev/null >"$log" 2>&1 || status=$?
    ((status == 0)) || cat "$log" >&2
    rm -f "$log"
    return "$status"
}

set_up() { # run|dev
    find_missing "$1"
    if ((${#missing[@]})); then
        install_missing
        find_missing run
        ((${#missing[@]} == 0)) || die "still missing: ${missing[*]}"
    fi
    make_environment "$1"
}

# --- system packages: looked for by program or feature, named as Debian names them -----------------------------------

find_missing() { # run|dev: sets missing, python
    missing=()
    python=
    if ! environment_works; then
        find_python
        [[ -n $python ]] || missing+=(python3)
        makes_environments "$python" || missing+=(python3-venv)
    fi
    has "qemu-system-$(processor)" || missing+=("$(qemu_package)")
    has qemu-img || missing+=(qemu-utils)
    has ssh || missing+=(openssh-client)
    # Checked or tested with where they are there: worth installing, not worth a question.
    if [[ $1 = dev ]] && has apt-get && becomes_root; then
        local program
        for program in shellcheck rsync zsh fish curl; do
            has "$program" || missing+=("$program")
        done
        has man || missing+=(man-db)
    fi
}

find_python() { # sets python: the first that is new enough, better one that can make environments; or empty
    local name
    python=
    for name in python3 python3.11 python3.12 python3.13 /usr/bin/python3; do
        "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        if makes_environments "$name"; then
            python=$name
            return
        fi
        python=${python:-$name}
    done
    [[ -n $python ]] || ! has python3 || die "appcat needs Python 3.11 or newer; this is $(python3 --version)"
}

makes_environments() { "${1:-false}" -c 'import ensurepip, venv' >/dev/null 2>&1; }

processor() { uname -m | sed 's/^arm64$/aarch64/'; }

qemu_package() {
    case $(processor) in
        x86_64) echo qemu-system-x86 ;;
        aarch64) echo qemu-system-arm ;;
        *) die "appcat runs on x86_64 and arm64; this is $(processor)" ;;
    esac
}

becomes_root() { ((EUID == 0)) || { has sudo && sudo -n true 2>/dev/null; }; }

install_missing() {
    has apt-get || die "please install (these are Debian's names of the packages), then run this again: ${missing[*]}"
    local install=(apt-get install --yes --no-install-recommends "${missing[@]}")
    local root=(env DEBIAN_FRONTEND=noninteractive)
    if ! becomes_root; then
        if ! has sudo || ! [[ -t 0 && -t 2 ]]; then ask_administrator; fi
        say "sudo is needed to install ${missing[*]}"
        sudo -v || ask_administrator
    fi
    ((EUID == 0)) || root=(sudo "${root[@]}")
    say "installing ${missing[*]}"
    # The lists that are there may do when a source is down or another apt is at it.
    quietly "${root[@]}" apt-get update || say "the package lists could not be refreshed; going on with those there are"
    quietly "${root[@]}" "${install[0]}" -o DPkg::Lock::Timeout=600 "${install[@]:1}" || die "${install[*]} failed: see above"
    hash -r
}

ask_administrator() {
    say "an administrator must run this line once, as root; then run $script again:"
    echo "apt-get update && apt-get install --yes --no-install-recommends ${missing[*]}" >&2
    exit 1
}

# --- the virtual environment -----------------------------------------------------------------------------------------

environment_works() { # ... and was made where it is now: the programs in it name their place
    project key >/dev/null 2>&1 && grep -qsF "$bin/python" "$bin/pip"
}

project() { "$bin/python" -I "$checkout/scripts/lib/project.py" "$checkout" "$@"; }

make_environment() { # run|dev
    mkdir -p "$venv"
    # One at a time; the lock goes with the subshell.
    (
        if has flock && ! flock -n 9; then
            say "waiting for another set-up"
            flock 9
        fi
        environment_works || new_environment
        install_appcat "$1"
    ) 9>"$venv/.lock"
}

new_environment() {
    say "making $venv with $("$python" --version)"
    find "$venv" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +
    quietly "$python" -m venv "$venv" || die "the environment could not be made: see above"
}

install_appcat() { # run|dev
    local key stamp=$venv/.installed-$1 more=()
    key=$(project key "${own:+linked}")
    if [[ $(cat "$stamp" 2>/dev/null) = "$key" ]]; then return; fi
    say "installing appcat and what it needs"
    if [[ $1 = dev ]]; then
        while IFS= read -r line; do more+=("$line"); done < <(project group dev)
    fi
    "$bin/python" -m pip install --quiet ${own:+--editable} "$checkout" ${more[@]+"${more[@]}"} ||
        die "pip could not install appcat: see above"
    echo "$key" >"$venv/.installed-run"
    echo "$key" >"$stamp"
}
