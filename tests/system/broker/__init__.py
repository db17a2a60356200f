"""Tests of users of the server, which start servers of their own."""
