import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vitest/config'

declare const process: { env: Record<string, string | undefined> }

// Where `npm run dev` finds a server.
const server = process.env['COURANT_HTTP'] ?? 'http://127.0.0.1:8080'

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: 'es2022',
    // The first ones with `light-dark()`.
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    // Beside the crate that puts it into the binary.
    outDir: '../crates/courant-console/assets/dist',
    emptyOutDir: true,
    // Everything with a hash in its name is below this folder: the server lets browsers keep it for ever.
    assetsDir: 'assets',
    // Nothing is inlined: the page's policy allows no `data:` but images.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { '/api': { target: server, changeOrigin: true } } },
  test: { include: ['src/**/*.test.ts'] },
})
