"""The operator's HTTP interface on loopback: health, readiness, metrics, status. It asks nobody and changes nothing."""
