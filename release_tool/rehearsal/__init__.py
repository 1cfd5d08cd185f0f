"""The embedded environment: look-alikes of every outside service, on loopback."""
