"""Alert rules judged, kept and delivered."""
