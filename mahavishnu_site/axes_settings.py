"""The settings of `axes`, which refuses logins after failures. `mahavishnu_site/logins.py` has the rest."""

from __future__ import annotations

from datetime import timedelta

# Failed logins as one user from one address, within this time.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
# A refused login neither prolongs that time nor writes.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_HANDLER = "mahavishnu_site.logins.LoginAttempts"
AXES_CLIENT_IP_CALLABLE = "mahavishnu_site.logins.login_address"
AXES_LOCKOUT_CALLABLE = "mahavishnu_site.logins.refuse"
# Failures are deleted when they are too old to count. Successful logins would be kept for ever.
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = AXES_VERBOSE = False
