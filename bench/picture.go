package main

func draw(string, string, string) error { return nil }
