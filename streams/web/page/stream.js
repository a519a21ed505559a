// The connection that brings what changes, opened again by itself. While it is silent the page asks instead (page.js).

import { noteClock } from "./ask.js";

const SILENT_MS = 4000; // four ticks: then the page asks by itself
const DEAD_MS = 12_000; // then the connection is given up, and another one opened
const WAITS_MS = [1000, 2000, 4000, 8000, 15_000]; // after one failure, two, …

export class Stream {
  constructor({ onFunnels, onAlerts, onHello }) {
    this.on = { onFunnels, onAlerts, onHello };
    this.source = null;
    this.path = "";
    this.heardAt = -Infinity;
    this.failures = 0;
    this.againAt = 0;
  }

  get live() {
    // A connection that broke is not live, however lately it was heard: else nobody asks, and the page says "live" of a worker that is gone.
    return this.source?.readyState === EventSource.OPEN && performance.now() - this.heardAt < SILENT_MS;
  }

  // Called once a second with what the page wants to hear; "" for nothing.
  follow(path) {
    if (path === "") return this.close();
    const now = performance.now();
    const dead = this.source !== null && now - Math.max(this.heardAt, this.openedAt) > DEAD_MS;
    if (dead || this.source?.readyState === EventSource.CLOSED) this.fail(now);
    if (path === this.path && this.source !== null) return;
    if (path !== this.path) this.close();
    if (now >= this.againAt) this.open(path, now);
  }

  open(path, now) {
    const source = new EventSource(path);
    Object.assign(this, { source, path, openedAt: now });
    const hear = (name, act) => source.addEventListener(name, (event) => {
      if (source !== this.source) return;
      this.heardAt = performance.now();
      this.failures = 0;
      act(JSON.parse(event.data));
    });
    hear("hello", () => this.on.onHello());
    hear("funnels", (data) => this.on.onFunnels(data.funnels));
    hear("alerts", (data) => this.on.onAlerts(data));
    hear("tick", (data) => noteClock(data.at));
  }

  fail(now) {
    const wait = WAITS_MS[Math.min(this.failures, WAITS_MS.length - 1)];
    this.failures += 1;
    this.againAt = now + wait * (0.75 + Math.random() / 2);
    this.close();
  }

  close() {
    this.source?.close();
    this.source = null;
    this.path = "";
  }
}
