# The stock clients of the demo and the tests: those in PATH, or a Python environment of our own in .venv. Sourced by deploy/karri.

VENV=$REPO/.venv
clients_install() {
    packages_install "$REPO/deploy/packages-test.txt"
    if [ ! -x "$VENV/bin/aws" ] || [ "$REPO/deploy/requirements-test.txt" -nt "$VENV/installed" ]; then
        venv_make() {
            # System packages are seen: lxml and xmlsec come from Debian.
            /usr/bin/python3 -m venv --system-site-packages "$VENV" &&
                "$VENV/bin/pip" install -q --disable-pip-version-check -r "$REPO/deploy/requirements-test.txt" &&
                touch "$VENV/installed"
        }
        step "installing aws CLI, boto3 and zeep into .venv" venv_make
    fi
    PATH=$VENV/bin:$PATH
}
