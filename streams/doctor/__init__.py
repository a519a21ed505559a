"""`funnelwatch doctor`: facts are gathered (`kafka`, `redis`, `channels`), and judged without asking anybody (`judge_*`)."""
