# shellcheck shell=bash
# The checks that run no test: sourced after setup.sh. Each runs, whatever the others say; `failed` names the bad ones.

failed=()

if [[ -z $own ]]; then
    # Leave no trace in a checkout that is not ours.
    export MYPY_CACHE_DIR=$venv/cache/mypy RUFF_CACHE_DIR=$venv/cache/ruff HYPOTHESIS_STORAGE_DIRECTORY=$venv/cache/hypothesis
    export PYTHONPYCACHEPREFIX=$venv/cache/python
    export PYTEST_ADDOPTS="-p no:cacheprovider ${PYTEST_ADDOPTS:-}"
fi

part() { # NAME COMMAND...
    local name=$1 from=$SECONDS
    shift
    if quietly "$@"; then
        say "$name: ok ($((SECONDS - from)) s)"
    else
        say "$name: FAILED"
        failed+=("$name")
    fi
}

run_checks() { # in the checkout
    local shell_scripts=()
    while IFS= read -r file; do shell_scripts+=("$file"); done < <(find scripts .ci -type f ! -name '*.py*' ! -path 'scripts/lib/*')
    part "ruff check" "$bin/ruff" check .
    part "ruff format" "$bin/ruff" format --check .
    part "mypy" "$bin/mypy" --strict
    part "layers" "$bin/lint-imports" --no-logo --cache-dir "$venv/cache/layers"
    if has shellcheck; then
        part "shellcheck" shellcheck --external-sources --check-sourced "${shell_scripts[@]}"
    else
        say "shellcheck: not installed, left out"
    fi
}
