#!/bin/sh
# Installs Debian's packages. Debian starts a package's service with it, some of them on every address; a policy
# keeps it from that meanwhile, where the administrator has none of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" || exit 1
fi
apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"
