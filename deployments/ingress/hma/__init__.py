"""The matcher in the shape of Meta's Hasher-Matcher-Actioner 2 (OpenMediaMatch), for consoles that speak to it."""
