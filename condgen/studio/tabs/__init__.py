"""The tabs of the studio, one file each."""
