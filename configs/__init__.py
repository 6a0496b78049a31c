"""Every option of SafeGuard. May import nothing of the other packages."""
