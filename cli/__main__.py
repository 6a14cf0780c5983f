"""``python -m rs_segment_cli``."""

from rs_segment_cli import main

main(prog_name="rs-segment")
